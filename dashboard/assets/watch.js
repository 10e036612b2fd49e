// A page whose own server has gone says so, and how old its numbers are; when the server is back it goes on by itself.
(function () {
	const patience = 5000;
	let heard = Date.now();
	let sign = null;

	// Dash writes the answers of the server into the page; any of them is a sign of life
	const fetched = window.fetch;
	window.fetch = function () {
		return fetched.apply(this, arguments).then(function (response) {
			if (response.ok) heard = Date.now();
			return response;
		});
	};

	setInterval(function () {
		const silent = Date.now() - heard > patience && !document.hidden;
		if (silent && !sign) {
			sign = document.createElement('div');
			sign.className = 'notice bad';
			sign.id = 'lost';
			sign.setAttribute('role', 'alert');
			sign.textContent = 'This page’s own server does not answer: is "make dashboard" or "make demo" still running?';
			document.body.prepend(sign);
		} else if (!silent && sign) {
			sign.remove();
			sign = null;
		}
	}, 1000);
})();

// A page whose own server has gone says so; when the server is back it goes on by itself. A server that is only slow has
// longer than one that refuses.
(function () {
	const refusedFor = 3000;
	const silentFor = 20000;
	let heard = Date.now();
	let refused = false;
	let sign = null;

	// Dash asks for each second's figures by fetch
	const fetched = window.fetch;
	window.fetch = function () {
		return fetched.apply(this, arguments).then(
			function (response) {
				refused = !response.ok;
				if (response.ok) heard = Date.now();
				return response;
			},
			function (error) {
				refused = true;
				throw error;
			}
		);
	};

	// a page in the background is not asked to keep up
	document.addEventListener('visibilitychange', function () {
		heard = Date.now();
	});

	function look() {
		const lost = !document.hidden && Date.now() - heard > (refused ? refusedFor : silentFor);
		if (lost && !sign) {
			sign = document.createElement('div');
			sign.className = 'notice bad';
			sign.id = 'lost';
			sign.setAttribute('role', 'alert');
			sign.textContent = 'This page’s own server does not answer: is "make dashboard" or "make demo" still running?';
			document.body.prepend(sign);
		} else if (!lost && sign) {
			sign.remove();
			sign = null;
		}
	}
	setInterval(look, 1000);
})();

/*
 * kafka_tls.c
 *		OpenSSL set up by a connection's ssl.* options, as librdkafka does it.
 *
 * Only for kafka_relay.c: where librdkafka speaks TLS itself, it reads these options itself.  What
 * it verifies by default is verified here: the chain of certificates, and the broker's name.
 */
#include "postgres.h"

#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include "nodes/parsenodes.h"
#include "nodes/value.h"

#include "kafka_tls.h"

const char *
kafka_option(List *options, const char *name)
{
	const char *value = NULL;
	ListCell   *cell;

	foreach(cell, options)
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			value = strVal(lfirst_node(DefElem, cell)->arg);
	return value;
}

static int
give_password(char *buffer, int room, int writing, void *password)
{
	int			length = password ? (int) strlen(password) : 0;

	if (length > room)
		return 0;
	memcpy(buffer, password, length);
	return length;
}

/* ---------------------------------------------------------------- each option; true when it can be used */

static bool
trust_pem(SSL_CTX *tls, const char *pem)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	X509	   *certificate;
	int			n = 0;

	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
	{
		n += X509_STORE_add_cert(SSL_CTX_get_cert_store(tls), certificate);
		X509_free(certificate);
	}
	BIO_free(bio);
	ERR_clear_error();			/* the end of the text is an error to it */
	return n > 0;
}

static bool
trust_location(SSL_CTX *tls, const char *path)
{
	struct stat status;
	bool		folder = stat(path, &status) == 0 && S_ISDIR(status.st_mode);

	return SSL_CTX_load_verify_locations(tls, folder ? NULL : path, folder ? path : NULL) == 1;
}

static bool
use_revoked(SSL_CTX *tls, const char *path)
{
	X509_STORE *store = SSL_CTX_get_cert_store(tls);

	return X509_STORE_load_locations(store, path, NULL) == 1 && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1;
}

/* the client's own, then those that lead from it to one that the broker trusts */
static bool
use_certificate_pem(SSL_CTX *tls, const char *pem)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	X509	   *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	bool		used = certificate != NULL && SSL_CTX_use_certificate(tls, certificate) == 1;

	X509_free(certificate);
	while (used && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		used = SSL_CTX_add_extra_chain_cert(tls, certificate) == 1;	/* which owns it now */
	BIO_free(bio);
	if (used)
		ERR_clear_error();
	return used;
}

static bool
use_certificate_location(SSL_CTX *tls, const char *path)
{
	return SSL_CTX_use_certificate_chain_file(tls, path) == 1;
}

static bool
use_key(SSL_CTX *tls, BIO *bio, const char *password)
{
	EVP_PKEY   *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, give_password, unconstify(char *, password)) : NULL;
	bool		used = key != NULL && SSL_CTX_use_PrivateKey(tls, key) == 1;

	EVP_PKEY_free(key);
	BIO_free(bio);
	return used;
}

static bool
use_keystore(SSL_CTX *tls, const char *path, const char *password)
{
	BIO		   *bio = BIO_new_file(path, "rb");
	PKCS12	   *store = bio ? d2i_PKCS12_bio(bio, NULL) : NULL;
	EVP_PKEY   *key = NULL;
	X509	   *certificate = NULL;
	STACK_OF(X509) *chain = NULL;
	bool		used = store != NULL && PKCS12_parse(store, password ? password : "", &key, &certificate, &chain) == 1 &&
		SSL_CTX_use_cert_and_key(tls, certificate, key, chain, 1) == 1;

	EVP_PKEY_free(key);
	X509_free(certificate);
	sk_X509_pop_free(chain, X509_free);
	PKCS12_free(store);
	BIO_free(bio);
	return used;
}

/* ---------------------------------------------------------------- all of them */

static const struct
{
	const char *name;
	bool		(*use) (SSL_CTX *tls, const char *value);
}			simple[] = {
	{"ssl.ca.pem", trust_pem},
	{"ssl.ca.location", trust_location},
	{"ssl.crl.location", use_revoked},
	{"ssl.certificate.pem", use_certificate_pem},
	{"ssl.certificate.location", use_certificate_location},
};

static bool
use_lists(SSL_CTX *tls, List *options, const char **name)
{
	const char *value;

	if ((value = kafka_option(options, *name = "ssl.cipher.suites")) != NULL && SSL_CTX_set_cipher_list(tls, value) != 1)
		return false;
	if ((value = kafka_option(options, *name = "ssl.curves.list")) != NULL && SSL_CTX_set1_curves_list(tls, value) != 1)
		return false;
	if ((value = kafka_option(options, *name = "ssl.sigalgs.list")) != NULL && SSL_CTX_set1_sigalgs_list(tls, value) != 1)
		return false;
	return true;
}

static bool
use_keys(SSL_CTX *tls, List *options, const char **name)
{
	const char *password = kafka_option(options, "ssl.key.password"),
			   *value;

	if ((value = kafka_option(options, *name = "ssl.key.pem")) != NULL && !use_key(tls, BIO_new_mem_buf(value, -1), password))
		return false;
	if ((value = kafka_option(options, *name = "ssl.key.location")) != NULL && !use_key(tls, BIO_new_file(value, "rb"), password))
		return false;
	value = kafka_option(options, *name = "ssl.keystore.location");
	return value == NULL || use_keystore(tls, value, kafka_option(options, "ssl.keystore.password"));
}

static bool
use_all(SSL_CTX *tls, List *options, const char **name)
{
	for (int i = 0; i < lengthof(simple); i++)
	{
		const char *value = kafka_option(options, *name = simple[i].name);

		if (value != NULL && !simple[i].use(tls, value))
			return false;
	}
	return use_lists(tls, options, name) && use_keys(tls, options, name);
}

SSL_CTX *
kafka_tls_make(List *options, char *reason, size_t room)
{
	SSL_CTX    *tls = SSL_CTX_new(TLS_client_method());
	const char *verify = kafka_option(options, "enable.ssl.certificate.verification"),
			   *name = "",
			   *why;

	ERR_clear_error();
	if (tls == NULL)
	{
		strlcpy(reason, "TLS could not be set up: out of memory", room);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
	SSL_CTX_set_verify(tls, verify != NULL && strcmp(verify, "false") == 0 ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (kafka_option(options, "ssl.ca.pem") == NULL && kafka_option(options, "ssl.ca.location") == NULL)
		SSL_CTX_set_default_verify_paths(tls);
	if (use_all(tls, options, &name))
		return tls;
	why = ERR_reason_error_string(ERR_peek_error());
	snprintf(reason, room, "option \"%s\" cannot be used: %s", name, why ? why : "it holds nothing that fits");
	ERR_clear_error();
	SSL_CTX_free(tls);
	return NULL;
}

//! Properties of TLS and SASL.

use crate::config::jaas::{JaasOptions, jaas_options};
use crate::config::property::{Declaration, Or, Parsed, Property, Text, properties};
use crate::config::security_values::{
    SaslMechanism, SecurityProtocol, Verified, parse_cipher_suites, parse_extensions, parse_highest_version,
    parse_mechanism, parse_name_check, parse_protocol, parse_verification, parse_versions,
};
use crate::engine::security::TlsVersion;

properties! {
    ENABLE_SSL_CERTIFICATE_VERIFICATION: Parsed<Verified> =
        Property::new("enable.ssl.certificate.verification", Parsed(parse_verification, "`true`"), "Certificates are always verified: `false` is an error")
            .unset("`true`");
    HTTPS_CA_PEM: Text = Property::new("https.ca.pem", Text, "CAs for the token endpoint, as PEM text").secret();
    SSL_CIPHER_SUITES: Parsed<Vec<String>> =
        Property::new("ssl.cipher.suites", Parsed(parse_cipher_suites, "names"), "Cipher suites that may be used, by their IANA or OpenSSL names").unset("all");
    SSL_CRL_LOCATION: Text =
        Property::new("ssl.crl.location", Text, "PEM file with revocation lists; the broker's certificate must be covered by one");
    SSL_ENABLED_PROTOCOLS: Or<Parsed<Vec<TlsVersion>>> =
        Property::new("ssl.enabled.protocols", Or(Parsed(parse_versions, "`TLSv1.2`, `TLSv1.3` or both"), "TLSv1.2,TLSv1.3"), "Versions of TLS that may be used");
    SSL_PROTOCOL: Or<Parsed<TlsVersion>> =
        Property::new("ssl.protocol", Or(Parsed(parse_highest_version, "`TLSv1.3` or `TLSv1.2`"), "TLSv1.3"), "Highest version of TLS that may be used");
    HTTPS_CA_LOCATION: Text =
        Property::new("https.ca.location", Text, "PEM file of CAs for the token endpoint").unset("the system's");
    SASL_JAAS_CONFIG: Parsed<JaasOptions> =
        Property::new("sasl.jaas.config", Parsed(jaas_options, "text"), "User and password, or OAUTHBEARER settings, as the Java client has them").secret();
    SASL_MECHANISM: Parsed<SaslMechanism> =
        Property::new("sasl.mechanism", Parsed(parse_mechanism, "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"), "SASL mechanism")
            .also(&["sasl.mechanisms"]);
    SASL_OAUTHBEARER_CLIENT_ID: Text =
        Property::new("sasl.oauthbearer.client.id", Text, "Client ID at the OpenID provider")
            .also(&["sasl.oauthbearer.client.credentials.client.id"]);
    SASL_OAUTHBEARER_CLIENT_SECRET: Text =
        Property::new("sasl.oauthbearer.client.secret", Text, "Client secret at the OpenID provider")
            .also(&["sasl.oauthbearer.client.credentials.client.secret"])
            .secret();
    SASL_OAUTHBEARER_EXTENSIONS: Parsed<Vec<(String, String)>> =
        Property::new("sasl.oauthbearer.extensions", Parsed(parse_extensions, "`name=value,...`"), "SASL extensions");
    SASL_OAUTHBEARER_SCOPE: Text = Property::new("sasl.oauthbearer.scope", Text, "Scope of the token");
    SASL_OAUTHBEARER_TOKEN: Text =
        Property::new("sasl.oauthbearer.token", Text, "The token; a reference is resolved for each connection").secret();
    SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: Text =
        Property::new("sasl.oauthbearer.token.endpoint.url", Text, "Token endpoint of the OpenID provider, or a `file:` URL of a token");
    SASL_PASSWORD: Text = Property::new("sasl.password", Text, "Password").secret();
    SASL_USERNAME: Text = Property::new("sasl.username", Text, "User name");
    SECURITY_PROTOCOL: Parsed<SecurityProtocol> =
        Property::new("security.protocol", Parsed(parse_protocol, "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`"), "Protocol of the listener")
            .unset("`PLAINTEXT`; TLS if a CA or a certificate is set");
    SSL_CERTIFICATE_LOCATION: Text =
        Property::new("ssl.certificate.location", Text, "PEM file with the client certificate, and its key if that has no file of its own");
    SSL_ENDPOINT_IDENTIFICATION_ALGORITHM: Or<Parsed<bool>> =
        Property::new("ssl.endpoint.identification.algorithm", Or(Parsed(parse_name_check, "`https` or empty"), "https"), "Host name verification; empty accepts a certificate for any host name");
    SSL_KEY_LOCATION: Text = Property::new("ssl.key.location", Text, "PEM file with the client key");
    SSL_KEY_PASSWORD: Text = Property::new("ssl.key.password", Text, "Password of the client key").secret();
    SSL_KEYSTORE_CERTIFICATE_CHAIN: Text =
        Property::new("ssl.keystore.certificate.chain", Text, "Client certificates as PEM text")
            .also(&["ssl.certificate.pem"])
            .secret();
    SSL_KEYSTORE_KEY: Text =
        Property::new("ssl.keystore.key", Text, "Client key as PEM text").also(&["ssl.key.pem"]).secret();
    SSL_KEYSTORE_LOCATION: Text =
        Property::new("ssl.keystore.location", Text, "PEM or PKCS#12 file with the client certificate and key");
    SSL_KEYSTORE_PASSWORD: Text = Property::new("ssl.keystore.password", Text, "Password of the key store").secret();
    SSL_KEYSTORE_TYPE: Text = Property::new("ssl.keystore.type", Text, "`PEM` or `PKCS12`").unset("by content");
    SSL_TRUSTSTORE_CERTIFICATES: Text =
        Property::new("ssl.truststore.certificates", Text, "CAs as PEM text").also(&["ssl.ca.pem"]).secret();
    SSL_TRUSTSTORE_LOCATION: Text =
        Property::new("ssl.truststore.location", Text, "PEM or PKCS#12 file with the CAs")
            .also(&["ssl.ca.location"])
            .unset("the system's CAs");
    SSL_TRUSTSTORE_PASSWORD: Text = Property::new("ssl.truststore.password", Text, "Password of the trust store").secret();
    SSL_TRUSTSTORE_TYPE: Text = Property::new("ssl.truststore.type", Text, "`PEM` or `PKCS12`").unset("by content");
}

//! Properties of the schema registry, by the names that Confluent's serializers and clients have for them.

use super::connection::INT;
use crate::config::property::{Declaration, Millis, Or, Parsed, Property, Text, properties};
use crate::config::registry_values::{BasicSource, BearerSource, parse_basic_source, parse_bearer_source};
use crate::config::security_values::parse_name_check;

properties! {
    BASIC_AUTH_CREDENTIALS_SOURCE: Parsed<BasicSource> =
        Property::new("basic.auth.credentials.source", Parsed(parse_basic_source, "`USER_INFO`, `URL` or `SASL_INHERIT`"), "Where the user and password for the schema registry are")
            .also(&["schema.registry.basic.auth.credentials.source"])
            .unset("where they are set");
    BASIC_AUTH_USER_INFO: Text =
        Property::new("basic.auth.user.info", Text, "User and password for the schema registry, `USER:PASSWORD`")
            .also(&["schema.registry.basic.auth.user.info"])
            .secret();
    BEARER_AUTH_CREDENTIALS_SOURCE: Parsed<BearerSource> =
        Property::new("bearer.auth.credentials.source", Parsed(parse_bearer_source, "`STATIC_TOKEN`"), "Where the token for the schema registry is")
            .also(&["schema.registry.bearer.auth.credentials.source"])
            .unset("`STATIC_TOKEN` with a token");
    BEARER_AUTH_IDENTITY_POOL_ID: Text =
        Property::new("bearer.auth.identity.pool.id", Text, "Identity pool at Confluent Cloud")
            .also(&["schema.registry.bearer.auth.identity.pool.id"]);
    BEARER_AUTH_LOGICAL_CLUSTER: Text =
        Property::new("bearer.auth.logical.cluster", Text, "Schema registry cluster at Confluent Cloud")
            .also(&["schema.registry.bearer.auth.logical.cluster"]);
    BEARER_AUTH_TOKEN: Text =
        Property::new("bearer.auth.token", Text, "Token for the schema registry")
            .also(&["schema.registry.bearer.auth.token"])
            .secret();
    SCHEMA_CACHE_DIR: Text =
        Property::new("kpipe.schema.cache.dir", Text, "Where schemas are kept between runs; empty for nowhere")
            .unset("`~/.cache/kpipe/schemas`; nowhere for a registry on loopback");
    SCHEMA_REGISTRY_REQUEST_TIMEOUT: Or<Millis> =
        Property::new("http.read.timeout.ms", Or(Millis(1..=INT), "10000"), "How long to wait for a response from the schema registry before retrying")
            .also(&["schema.registry.http.read.timeout.ms"]);
    SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION: Text =
        Property::new("schema.registry.ssl.certificate.location", Text, "PEM file with the client certificate for the schema registry");
    SCHEMA_REGISTRY_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM: Or<Parsed<bool>> =
        Property::new("schema.registry.ssl.endpoint.identification.algorithm", Or(Parsed(parse_name_check, "`https` or empty"), "https"), "Host name verification of the schema registry");
    SCHEMA_REGISTRY_SSL_KEY_LOCATION: Text =
        Property::new("schema.registry.ssl.key.location", Text, "PEM file with the client key for the schema registry");
    SCHEMA_REGISTRY_SSL_KEY_PASSWORD: Text =
        Property::new("schema.registry.ssl.key.password", Text, "Password of that key").secret();
    SCHEMA_REGISTRY_SSL_KEYSTORE_CERTIFICATE_CHAIN: Text =
        Property::new("schema.registry.ssl.keystore.certificate.chain", Text, "Client certificates for the schema registry as PEM text")
            .also(&["schema.registry.ssl.certificate.pem"])
            .secret();
    SCHEMA_REGISTRY_SSL_KEYSTORE_KEY: Text =
        Property::new("schema.registry.ssl.keystore.key", Text, "Client key for the schema registry as PEM text")
            .also(&["schema.registry.ssl.key.pem"])
            .secret();
    SCHEMA_REGISTRY_SSL_KEYSTORE_LOCATION: Text =
        Property::new("schema.registry.ssl.keystore.location", Text, "PEM or PKCS#12 file with the client certificate and key for the schema registry");
    SCHEMA_REGISTRY_SSL_KEYSTORE_PASSWORD: Text =
        Property::new("schema.registry.ssl.keystore.password", Text, "Password of that key store").secret();
    SCHEMA_REGISTRY_SSL_KEYSTORE_TYPE: Text =
        Property::new("schema.registry.ssl.keystore.type", Text, "`PEM` or `PKCS12`").unset("by content");
    SCHEMA_REGISTRY_SSL_TRUSTSTORE_CERTIFICATES: Text =
        Property::new("schema.registry.ssl.truststore.certificates", Text, "CAs of the schema registry as PEM text")
            .also(&["schema.registry.ssl.ca.pem"])
            .secret();
    SCHEMA_REGISTRY_SSL_TRUSTSTORE_LOCATION: Text =
        Property::new("schema.registry.ssl.truststore.location", Text, "PEM or PKCS#12 file with the CAs of the schema registry")
            .also(&["schema.registry.ssl.ca.location"])
            .unset("the system's CAs");
    SCHEMA_REGISTRY_SSL_TRUSTSTORE_PASSWORD: Text =
        Property::new("schema.registry.ssl.truststore.password", Text, "Password of that trust store").secret();
    SCHEMA_REGISTRY_SSL_TRUSTSTORE_TYPE: Text =
        Property::new("schema.registry.ssl.truststore.type", Text, "`PEM` or `PKCS12`").unset("by content");
    SCHEMA_REGISTRY_URL: Text =
        Property::new("schema.registry.url", Text, "Addresses of the schema registry, separated by commas; the next is tried when one fails")
            .flag("--registry");
}

//! Whom to trust as an engine: its own `sslrootcert`, else what the machine trusts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use pgml_protocol::{Error, Kind, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::engine::Engine;

/// A file's identity and state: it is read again once that has changed.
type FileState = (u64, u64, u64, i64, i64);

thread_local! {
    /// By the path of `sslrootcert`; what the machine trusts is under the empty one.
    static CONFIGS: RefCell<HashMap<String, (FileState, Arc<ClientConfig>)>> = RefCell::default();
}

/// The TLS settings for an engine. Read once in a backend's life, and again when the file changes.
pub fn config(engine: &Engine) -> Result<Arc<ClientConfig>> {
    let path = engine.options.sslrootcert.as_deref().unwrap_or_default();
    let unreadable = |problem: &dyn std::fmt::Display| {
        Error::new(Kind::CannotConnect, format!("{}: sslrootcert cannot be used: {problem}", engine.label()))
    };
    let state = match path {
        "" => FileState::default(),
        path => {
            let status = fs::metadata(path).map_err(|error| unreadable(&error))?;
            (status.dev(), status.ino(), status.size(), status.mtime(), status.mtime_nsec())
        }
    };
    let known = CONFIGS.with_borrow(|configs| {
        configs.get(path).filter(|(known, _)| *known == state).map(|(_, config)| config.clone())
    });
    if let Some(config) = known {
        return Ok(config);
    }
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    if path.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate.clone()).map_err(|error| unreadable(&error))?;
            named.push(certificate);
        }
        if named.is_empty() {
            return Err(unreadable(&"it holds no certificate in PEM form"));
        }
    }
    let config = trusting(roots, named).map_err(|error| unreadable(&error))?;
    CONFIGS.with_borrow_mut(|configs| configs.insert(path.to_owned(), (state, config.clone())));
    Ok(config)
}

fn trusting(
    roots: RootCertStore,
    named: Vec<CertificateDer<'static>>,
) -> std::result::Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if named.is_empty() {
        return Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    }
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    let verifier = Arc::new(ChainOrNamed { chains, named });
    // "Dangerous" is any verifier but rustls's own. This one accepts what that accepts, and a
    // certificate that the administrator has named.
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Accepts a chain to a trusted root and, like OpenSSL, a certificate that is itself in the file.
///
/// `openssl req -x509` makes a certificate that is marked as that of an authority. webpki refuses
/// one as a server's own, whoever trusts it.
#[derive(Debug)]
struct ChainOrNamed {
    chains: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ChainOrNamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let result =
            self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match &result {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(reason)))
                if is_authority_as_server(reason) && self.named.iter().any(|named| named == end_entity) =>
            {
                // webpki looks at the dates before it looks at the kind, so they are right.
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn is_authority_as_server(reason: &rustls::OtherError) -> bool {
    matches!(reason.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

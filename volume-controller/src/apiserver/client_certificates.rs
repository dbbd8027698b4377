//! Client certificates: the common name is the user, each organization a group.
//!
//! The handshake only asks for one and proves that the client has its key; whether it is
//! believed is the answer to a request, a 401 that clients understand. An aborted handshake
//! would tell them nothing.
//!
//! Source: "X509 client certificates" in Kubernetes' documentation.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

use super::error::ServeError;
use super::peer::Certified;
use super::tls::provider;
use super::user::{AUTHENTICATED, CREDENTIAL, User};

/// Believes the certificates that one authority has signed for clients.
#[derive(Debug, Clone)]
pub(crate) struct Believed(Arc<dyn ClientCertVerifier>);

impl Believed {
    pub(crate) fn new(authority: CertificateDer<'static>) -> Result<Self, ServeError> {
        let failed = |error: String| ServeError::Certificate(error);
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(|error| failed(error.to_string()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self(verifier))
    }

    /// What the handshake asks the client with.
    pub(crate) fn asking(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Asking(self.0.clone()))
    }

    /// Who a client with this chain is; an error for people who look for why not.
    pub(crate) fn who(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Certified, String> {
        let (first, others) = chain.split_first().ok_or("the chain is empty")?;
        self.0.verify_client_cert(first, others, now).map_err(|error| error.to_string())?;
        let (_, certificate) = parse_x509_certificate(first).map_err(|error| error.to_string())?;
        let names = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).map_err(|error| error.to_string())
        };
        let name = certificate.subject().iter_common_name().map(names).next().unwrap_or(Ok(String::new()))?;
        if name.is_empty() {
            return Err("it has no common name, which is the user's".to_owned());
        }
        let groups = certificate.subject().iter_organization().map(names);
        let mut groups = groups.collect::<Result<Vec<_>, _>>()?;
        groups.push(AUTHENTICATED.to_owned());
        // A connection may outlive a certificate of the chain.
        let mut expiry = certificate.validity().not_after.timestamp();
        for other in others {
            let (_, other) = parse_x509_certificate(other).map_err(|error| error.to_string())?;
            expiry = expiry.min(other.validity().not_after.timestamp());
        }
        let digest = Sha256::digest(first).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let extra = [(CREDENTIAL.to_owned(), vec![format!("X509SHA256={digest}")])].into();
        Ok(Certified { user: User { name, groups, extra, ..User::default() }, expiry })
    }
}

/// Asks for a certificate, takes whatever comes, and has its key proved.
#[derive(Debug)]
struct Asking(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

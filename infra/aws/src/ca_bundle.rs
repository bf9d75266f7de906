//! Who is trusted to say which server is which: the authorities of this host, or those of the file that `AWS_CA_BUNDLE` names.
//!
//! The AWS command line and the SDKs of other languages take the file in place of the host's own. So does Mill: whoever names a file
//! trusts it alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The variable that names the file.
const VARIABLE: &str = "AWS_CA_BUNDLE";

/// The certificates of a file in PEM form, at least one.
#[derive(Debug, Clone)]
pub(crate) struct CaBundle {
    roots: RootCertStore,
    context: TlsContext,
}

/// A file of certificates that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} names `{}`, {why}; name a file with certificates in PEM form, or unset the variable", path.display())]
pub struct CaBundleError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl CaBundle {
    /// That of the environment, if it names one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate, or one that cannot be used.
    pub(crate) fn of_environment() -> Result<Option<Self>, CaBundleError> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        path.as_deref().map(OsStr::as_ref).map(Self::read).transpose()
    }

    fn read(path: &Path) -> Result<Self, CaBundleError> {
        let error = |why: String| CaBundleError { path: path.to_owned(), why };
        let pem = std::fs::read(path).map_err(|why| error(format!("which cannot be read: {why}")))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added =
                certificate.map_err(|why| why.to_string()).and_then(|it| roots.add(it).map_err(|why| why.to_string()));
            added.map_err(|why| error(format!("which has a certificate that cannot be used: {why}")))?;
        }
        if roots.is_empty() {
            return Err(error("which holds no certificate".to_owned()));
        }
        // The SDK reads them again, and panics at what it cannot read: so they were read first.
        let trusted = TrustStore::empty().with_pem_certificate(pem);
        let context = TlsContext::builder().with_trust_store(trusted).build();
        Ok(Self { roots, context: context.map_err(|why| error(format!("which cannot be used: {why}")))? })
    }

    /// What a client of another make trusts: the same.
    ///
    /// # Errors
    /// None with the versions of TLS that are built in.
    pub(crate) fn tls_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(self.roots.clone()).with_no_client_auth())
    }

    /// The SDK's own HTTP client, but that it trusts these alone.
    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let context = self.context.clone();
        Builder::new().build_with_connector_fn(move |settings, components| {
            let builder = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            let mut builder = builder.tls_context(context.clone());
            builder.set_connector_settings(settings.cloned());
            builder.set_proxy_config(Some(ProxyConfig::from_env()));
            if let Some(components) = components {
                builder.set_sleep_impl(components.sleep_impl());
            }
            builder.build()
        })
    }
}

// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! How a client is made: address, credential, TLS, defaults of its calls.

use std::env;
use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::call::Caller;
use crate::client::Client;
use crate::connector::Connector;
use crate::credential::Credential;
use crate::error::whole_text;

/// Where `make run` serves.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// Bounds a call, unless the client or the call says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds a chat call, unless the client or the call says otherwise.
pub const DEFAULT_CHAT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Longest time to connect and to agree on TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the details of an error with many bad fields.
const MOST_HEADER_BYTES: u32 = 1 << 20;

/// Makes a [`Client`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    address: String,
    user_id: String,
    credential: Option<Credential>,
    tls: Option<Tls>,
    insecure: bool,
    settings: Settings,
}

/// What the calls of a client share.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) credential: Option<Credential>,
    pub(crate) timeout: Duration,
    pub(crate) chat_timeout: Duration,
}

#[derive(Clone)]
enum Tls {
    System,
    Roots(Vec<u8>),
}

impl Builder {
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            user_id: String::new(),
            credential: None,
            tls: None,
            insecure: false,
            settings: Settings {
                credential: None,
                timeout: DEFAULT_TIMEOUT,
                chat_timeout: DEFAULT_CHAT_TIMEOUT,
            },
        }
    }

    /// Returns a builder with RECOLLECT_ADDRESS, RECOLLECT_API_KEY, RECOLLECT_USER_ID and
    /// RECOLLECT_TLS of the environment. What is set afterwards wins.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let found = |name| variable(name).filter(|value| !value.is_empty());
        let address = found("RECOLLECT_ADDRESS");
        let mut builder = Self::new(address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()));
        if let Some(key) = found("RECOLLECT_API_KEY") {
            builder = builder.api_key(key);
        }
        if let Some(user_id) = found("RECOLLECT_USER_ID") {
            builder = builder.user_id(user_id);
        }
        let tls = found("RECOLLECT_TLS").unwrap_or_default().to_lowercase();
        if ["1", "true", "yes"].contains(&tls.as_str()) {
            builder = builder.tls();
        }
        builder
    }

    /// Whose memory it is where a request leaves `user_id` empty. Default: none; the server refuses
    /// such a request.
    pub fn user_id(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = user_id.into();
        self
    }

    /// Sends an API key with every call.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.credential = Some(Credential::Key(key.into()));
        self
    }

    /// Sends what the source returns with every call, as a bearer token: an API key or a token.
    ///
    /// It is asked before each try of a call, so it should keep what it got until it expires. If it
    /// fails, so does the call, with [`Code::Unauthenticated`](crate::Code::Unauthenticated).
    pub fn token_source<S, F, E>(mut self, source: S) -> Self
    where
        S: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.credential = Some(Credential::source(source));
        self
    }

    /// Encrypts, and trusts the system's authorities. Default: plain text.
    pub fn tls(mut self) -> Self {
        self.tls = Some(Tls::System);
        self
    }

    /// Encrypts, and trusts these authorities alone: certificates in PEM.
    pub fn tls_roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls = Some(Tls::Roots(pem.into()));
        self
    }

    /// Allows a credential to cross the network in plain text, on a network that is trusted.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Bounds every call but those of chat, watches, exports and imports. Default:
    /// [`DEFAULT_TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Bounds chat calls. Default: [`DEFAULT_CHAT_TIMEOUT`].
    pub fn chat_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chat_timeout = timeout;
        self
    }

    /// Returns the client. It connects when the first call is made, and again when a call finds
    /// the connection lost.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        if self.credential.is_some()
            && self.tls.is_none()
            && !self.insecure
            && !is_local(&self.address)
        {
            return Err(BuildError::PlainText { address: self.address });
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BuildError::NoRuntime);
        }
        let endpoint = self.endpoint()?;
        let channel = if self.is_socket() {
            endpoint.connect_lazy()
        } else {
            endpoint.connect_with_connector_lazy(Connector::tcp())
        };
        let settings = Settings { credential: self.credential, ..self.settings };
        Ok(Client {
            caller: Caller {
                channel,
                settings: Arc::new(settings),
                user_id: self.user_id.into(),
                timeout: None,
            },
        })
    }

    fn is_socket(&self) -> bool {
        self.address.starts_with("unix:")
    }

    fn endpoint(&self) -> Result<Endpoint, BuildError> {
        let wrong = || BuildError::Address { address: self.address.clone() };
        let uri = if self.is_socket() {
            self.address.clone()
        } else {
            let authority: http::uri::Authority = self.address.parse().map_err(|_| wrong())?;
            if authority.port().is_none() || authority.as_str().contains('@') {
                return Err(wrong());
            }
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{authority}")
        };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|_| wrong())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_max_header_list_size(MOST_HEADER_BYTES);
        if let Some(tls) = &self.tls {
            let config = match tls {
                Tls::System => ClientTlsConfig::new().with_native_roots(),
                Tls::Roots(pem) => {
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
            };
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| BuildError::Tls { message: whole_text(&error) })?;
        }
        Ok(endpoint)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("address", &self.address)
            .field("user_id", &self.user_id)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The address is neither `HOST:PORT` nor `unix:PATH`.
    Address {
        /// What was given.
        address: String,
    },
    /// A credential would cross the network in plain text.
    PlainText {
        /// Where to.
        address: String,
    },
    /// TLS cannot be set up, as with authorities that are not certificates in PEM.
    Tls {
        /// One sentence for people.
        message: String,
    },
    /// There is no Tokio runtime: clients are made within one.
    NoRuntime,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address } => {
                write!(f, "the address {address:?} is neither HOST:PORT nor unix:PATH")
            }
            Self::PlainText { address } => write!(
                f,
                "a credential would cross the network to {address} in plain text: use tls(), or \
                 insecure() if the network is trusted"
            ),
            Self::Tls { message } => write!(f, "TLS cannot be set up: {message}"),
            Self::NoRuntime => f.write_str("there is no Tokio runtime to make a client in"),
        }
    }
}

impl StdError for BuildError {}

/// Whether calls to an address stay on this machine.
fn is_local(address: &str) -> bool {
    if address.starts_with("unix:") {
        return true;
    }
    let Some((host, _)) = address.rsplit_once(':') else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> Option<BuildError> {
        Client::builder(address).api_key("k").build().err()
    }

    #[tokio::test]
    async fn a_credential_does_not_cross_the_network_in_plain_text() {
        for address in ["example.com:443", "10.0.0.1:50051", "[fe80::1]:50051", "localhost.com:1"] {
            let plain = BuildError::PlainText { address: address.to_owned() };
            assert_eq!(refused(address), Some(plain));
            for allowed in [Builder::tls, Builder::insecure] {
                assert!(allowed(Client::builder(address).api_key("k")).build().is_ok());
            }
        }
        for address in ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1", "unix:/tmp/s"] {
            assert_eq!(refused(address), None, "{address}");
        }
    }

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port() {
        for address in ["", "localhost", "http://localhost:1", "a b:1", "u@h:1", "h:1/x", "h:x"] {
            let wrong = BuildError::Address { address: address.to_owned() };
            assert_eq!(Client::builder(address).build().err(), Some(wrong));
        }
    }

    #[tokio::test]
    async fn authorities_have_to_be_certificates() {
        let built = Client::builder("h:1").tls_roots("-----BEGIN CERTIFICATE-----\nno").build();
        assert!(matches!(built.err(), Some(BuildError::Tls { .. })));
    }

    #[test]
    fn a_client_is_made_within_a_runtime() {
        assert_eq!(Client::builder("h:1").build().err(), Some(BuildError::NoRuntime));
    }

    #[test]
    fn the_environment_is_read() {
        let builder = Builder::from_variables(|name| {
            let value = match name {
                "RECOLLECT_ADDRESS" => "h:1",
                "RECOLLECT_API_KEY" => "k",
                "RECOLLECT_USER_ID" => "",
                "RECOLLECT_TLS" => "Yes",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert_eq!((builder.address.as_str(), builder.user_id.as_str()), ("h:1", ""));
        assert!(matches!(&builder.credential, Some(Credential::Key(key)) if key == "k"));
        assert!(matches!(builder.tls, Some(Tls::System)));
        let builder = Builder::from_variables(|_| None);
        assert_eq!(builder.address, DEFAULT_ADDRESS);
        assert!(builder.credential.is_none() && builder.tls.is_none());
    }

    #[test]
    fn nothing_shows_a_key() {
        assert!(!format!("{:?}", Client::builder("h:1").api_key("secret")).contains("secret"));
    }
}

//! A TLS connection whose other end can be asked for its certificate, and the words for why one was refused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

use super::read::{Certificate, ReadError};

/// A connection with TLS on it.
#[derive(Debug)]
pub struct Secured<S> {
    stream: TlsStream<S>,
}

/// Speaks TLS with a server that has to have a certificate for `name`.
///
/// # Errors
/// When the name is none, or the server is not accepted. A server that speaks TLS 1.3 tells only afterwards whether it accepts us.
pub async fn connect<S>(connector: &TlsConnector, name: &str, stream: S) -> io::Result<Secured<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(Secured { stream: connector.connect(name, stream).await? })
}

fn server_name(name: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(name.to_owned())
}

impl<S> Secured<S> {
    /// As in `TLSv1_3`.
    pub fn version(&self) -> String {
        let version = self.stream.get_ref().1.protocol_version();
        version.and_then(|version| version.as_str()).unwrap_or("TLS").to_owned()
    }

    /// The server's certificate.
    ///
    /// # Errors
    /// When it has shown none that can be read.
    pub fn peer(&self) -> Result<Certificate, ReadError> {
        let place = "the server's answer";
        let shown = self.stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        shown.map_or_else(|| Err(ReadError::Empty(place.to_owned())), |der| Certificate::from_der(der, place))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why TLS ended, where an error or one of its causes says so. The second is true when the server refused us.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<(String, bool)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(words(found));
        }
        // An I/O error has its own error inside, and as its source that one's cause.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn words(error: &Error) -> (String, bool) {
    let text = match error {
        Error::AlertReceived(alert) => {
            let why = match alert {
                AlertDescription::CertificateRequired => "it wants a client certificate",
                AlertDescription::UnknownCA => "it does not trust the authority of the client certificate",
                AlertDescription::CertificateExpired => "the client certificate has ended",
                AlertDescription::BadCertificate => "it does not accept the client certificate, or wants one",
                AlertDescription::UnsupportedCertificate => "the client certificate is not one for clients",
                other => return (format!("the server ended TLS: {other:?}"), true),
            };
            return (format!("the server refuses the client: {why}"), true);
        }
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is by an authority that is not trusted".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has ended".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate does not hold yet".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                format!("the server's certificate is for other names: {}", presented.join(", "))
            }
            CertificateError::NotValidForName => "the server's certificate is for other names".to_owned(),
            other => format!("the server's certificate is not accepted: {other:?}"),
        },
        Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        other => other.to_string(),
    };
    (text, false)
}

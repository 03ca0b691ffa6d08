//! Certificates: an authority that signs, what a certificate says, and TLS out of PEM texts. Knows no files and no cluster.

mod authority;
mod connect;
mod name;
mod read;
mod tls;

pub use authority::{Authority, AuthorityError, Purpose, SignError, Signed, Validity};
pub use connect::{Secured, connect, refusal};
pub use name::{NameError, SubjectName};
pub use read::{Certificate, ReadError, is_due, read_all};
pub use tls::{ClientPair, Text, TlsError, Versions, check_pair, connector};

/// The client's side of TLS.
pub use tokio_rustls::TlsConnector as Connector;

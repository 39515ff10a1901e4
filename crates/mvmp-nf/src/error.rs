//! What can go wrong for an NF. The Python module turns each kind into the exception of its name.

use mvmp_wire::channel::ChannelError;
use mvmp_wire::message::{ErrorCode, FromPlatform};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NfError {
    /// There is no platform to talk to, or it speaks another protocol.
    #[error("{0}")]
    Connect(String),
    /// The authorization table does not grant it.
    #[error("{0}")]
    NotAuthorized(String),
    /// All instances of the role are taken.
    #[error("{0}")]
    NameInUse(String),
    /// No such device, port or setting.
    #[error("{message}")]
    Config {
        /// What and where.
        message: String,
        /// What to try.
        hint: Option<String>,
    },
    /// The rule given to `open` is wrong.
    #[error("{message}")]
    Policy {
        /// What.
        message: String,
        /// Line in the rule, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
        /// What to try.
        hint: Option<String>,
    },
    /// The platform refused for a reason of its own, for instance no room.
    #[error("{0}")]
    Refused(String),
    /// The packet with this number in its burst has been sent or released.
    #[error("packet {0} of this burst has been sent or released")]
    NotHeld(usize),
    /// Another thread is in a call on the same handle.
    #[error("another thread is in a call on this handle or burst; let one thread at a time use it")]
    Busy,
    /// The handle, the NF or the burst's connection is closed.
    #[error("{0}")]
    Closed(String),
    /// The platform is gone.
    #[error("{}", if *.in_order { "the platform has shut down" } else { "the connection to the platform is lost; reconnect() opens the same handles again" })]
    PlatformLost {
        /// It had said so.
        in_order: bool,
    },
    /// The platform took the handle, or everything, away.
    #[error("the platform has taken it away: {0}")]
    Detached(String),
    /// The `interrupted` callback said so.
    #[error("interrupted")]
    Interrupted,
}

impl NfError {
    /// An error of [`NfError::Config`] without a hint.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config {
            message: message.into(),
            hint: None,
        }
    }

    /// What an answer means that is not the one hoped for.
    pub(crate) fn from_answer(answer: FromPlatform) -> Self {
        let FromPlatform::Error {
            code,
            message,
            line,
            column,
            hint,
        } = answer
        else {
            return Self::Connect(
                "the platform gave an answer that does not fit the question: is it another version?".into(),
            );
        };
        let whole = |message: String, hint: Option<String>| match hint {
            Some(hint) => format!("{message}\n  hint: {hint}"),
            None => message,
        };
        match code {
            ErrorCode::Version => Self::Connect(whole(message, hint)),
            ErrorCode::NotAuthorized => Self::NotAuthorized(whole(message, hint)),
            ErrorCode::NameInUse => Self::NameInUse(whole(message, hint)),
            ErrorCode::Config => Self::Config { message, hint },
            ErrorCode::Policy => Self::Policy {
                message,
                line,
                column,
                hint,
            },
            ErrorCode::NoRoom | ErrorCode::Malformed | ErrorCode::Other => {
                Self::Refused(whole(message, hint))
            }
        }
    }
}

impl From<ChannelError> for NfError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::PlatformLost { in_order: false },
            other => Self::Connect(other.to_string()),
        }
    }
}

//! Who someone is: tokens and passwords. Knows no connection and no store.

mod fetch;
mod jwks;
mod keys;
mod lockout;
mod password;
mod refresh;
mod rights;
mod token;

pub use lockout::{FORGOTTEN_AFTER, Failures, Subject, wait};
pub use password::{Busy, PasswordRule, Passwords, check_password, check_username, is_username};
pub use refresh::{Bits, Kept, RefreshRules, RefreshToken, Verdict, judge};
pub use rights::{Rights, Role, Scope};
pub use token::{Claims, Grant, TokenError, Tokens};

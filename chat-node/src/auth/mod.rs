//! Who someone is: tokens and passwords. Knows no connection and no store.

mod fetch;
mod jwks;
mod keys;
mod password;
mod refresh;
mod rights;
mod token;

pub use password::{PasswordRule, Passwords, check_password, check_username};
pub use refresh::{Bits, Kept, RefreshRules, RefreshToken, Verdict, judge};
pub use rights::{Rights, Role, Scope};
pub use token::{Claims, Grant, TokenError, Tokens};

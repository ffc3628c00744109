//! Who someone is: tokens and passwords. Knows no connection and no store.

mod password;
mod token;

pub use password::{PasswordRule, Passwords, check_password, check_username};
pub use token::{Claims, TokenError, Tokens};

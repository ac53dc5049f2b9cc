//! WHO CALLS, AND MAY THEY COME IN?
//!
//! - [`credential`]: which key a request presents.
//! - [`failures`]: which addresses sent too many invalid keys.
//! - [`forwarded`]: which client stands behind a trusted proxy.
//! - [`origin`]: which web page sent a request.
//! - [`ids`]: which key and deployment a response id belongs to.
//! - [`jwt`]: whether a JSON Web Token is valid, and whose it is.
//! - [`role`]: what an operator may do.

pub mod credential;
pub mod failures;
pub mod forwarded;
pub mod ids;
pub mod jwt;
pub mod origin;
pub mod role;

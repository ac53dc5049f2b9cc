//! WHICH BACKEND SERVES A REQUEST, AND WHAT FOLLOWS A FAILURE?
//!
//! - [`choice`] chooses a deployment of a pool by its policy; [`balance`] scores them from their [`load`]; [`addresses`] picks an address of a backend.
//! - [`failure_state`] decides which deployment or backend a failure takes out of service, with two [`breaker`]s each.
//! - [`conversation`] hashes a prompt; [`prefix`] knows which deployments have the beginning of a prompt in their caches.
//! - [`speed`] learns how fast each deployment prefills.
//! - [`route`] sends a request to another model than it asked for; [`signals`] keeps what an engine reported of itself.
//! - [`queue`] orders the requests that wait while every backend of a pool is full.
//! - [`status`] says what a backend's status means, [`retry`] whether a failed attempt may be repeated, and
//!   [`retry_state`] which attempt comes next.

pub mod addresses;
pub mod balance;
pub mod breaker;
pub mod choice;
pub mod conversation;
pub mod failure_state;
pub mod load;
pub mod prefix;
pub mod queue;
pub mod retry;
pub mod retry_state;
pub mod route;
pub mod signals;
pub mod speed;
pub mod status;

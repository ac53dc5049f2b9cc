//! The front: requests and responses on HTTP/1.1, clients over TLS, and what can be reached at all.

mod chunked;
mod coding;
mod length;
mod lines;
mod manners;
mod mutations;
mod surface;
mod target;
mod tls;

//! The way to a backend: addresses of a name, base URLs, proxies, certificates.

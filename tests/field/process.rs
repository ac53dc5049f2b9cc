//! The process: memory of large bodies, shutdown, logs, what the documentation promises.

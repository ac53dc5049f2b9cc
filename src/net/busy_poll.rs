//! `SO_BUSY_POLL`: how long the kernel spins on a socket's receive queue before it sleeps (socket(7)).
//!
//! Unsafe code: no safe library offers this option.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Sets the option on `socket`. Asking for more than the machine's own default needs CAP_NET_ADMIN; a refusal leaves the
/// socket as it is, which is slower and not wrong.
pub(super) fn set(socket: BorrowedFd<'_>, micros: u32) {
    let value = libc::c_int::try_from(micros).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads the four bytes of `value`,
    // whose length is given, before the call returns.
    let _refused = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    #[test]
    fn the_option_is_set_or_refused_and_the_socket_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        super::set(listener.as_fd(), 50);
        assert!(listener.local_addr().is_ok());
    }
}

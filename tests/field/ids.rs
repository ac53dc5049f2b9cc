//! Endpoints beside the generating ones, and responses that later requests refer to.

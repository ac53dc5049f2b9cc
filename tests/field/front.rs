//! Requests at the front: credentials, origins, sizes, encodings, and what tokens they are taken to cost.

//! WHO DO WE CALL, AND HOW? One kind of backend each: paths, credentials, quirks. Pure.

/// How one kind of backend is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Which kind.
    pub kind: Kind,
}

/// The kinds of backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// vLLM's OpenAI server.
    Vllm,
}

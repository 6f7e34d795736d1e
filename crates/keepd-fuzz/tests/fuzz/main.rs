//! The corpora, and what comes of them by chance that is the same on every machine.

mod corpora;
mod mutation;

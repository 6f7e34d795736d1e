//! The warden.

pub mod machine;

//! A second `keepd up`, where keepd runs already: it looks on, or starts what is missing, and
//! nothing depends on it. Who detaches changes nothing.

mod background;
mod foreground;
mod running;
mod view;

pub(crate) use background::start_missing;
pub(crate) use foreground::look_on;

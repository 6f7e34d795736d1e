//! Whether and how output is coloured.

use std::ffi::OsString;

use crate::instance::fnv_1a_32;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The variables of the environment that speak about colour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColorEnvironment {
    /// NO_COLOR is set and not empty.
    pub no_color: bool,
    /// CLICOLOR_FORCE or FORCE_COLOR is set, not empty and not 0.
    pub force: bool,
    /// TERM is `dumb`.
    pub dumb: bool,
}

impl ColorEnvironment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let filled = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let on = |value: Option<OsString>| value.is_some_and(|value| value != "0");
        Self {
            no_color: filled("NO_COLOR").is_some(),
            force: on(filled("CLICOLOR_FORCE")) || on(filled("FORCE_COLOR")),
            dumb: filled("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

impl ColorChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// Returns the word that people type.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// Returns the choice with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.word() == word)
    }

    /// Reports whether colours are used on an output that is (or is not) a terminal.
    ///
    /// The option wins over the environment, NO_COLOR over the variables that force colour, and a
    /// dumb terminal never gets any unless the option asks for it.
    pub fn is_colored(self, environment: &ColorEnvironment, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if environment.no_color || environment.dumb => false,
            Self::Auto => environment.force || terminal,
        }
    }
}

/// The colours for names: those that can be read on dark and on light ground.
const NAME_COLORS: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];

/// Puts `text` into the colour of this name, which is the same in every program and every run.
pub fn paint_name(name: &str, text: &str) -> String {
    let number = NAME_COLORS
        .get(fnv_1a_32(name.as_bytes()) as usize % NAME_COLORS.len())
        .copied()
        .unwrap_or(0);
    format!("\x1b[{number}m{text}\x1b[0m")
}

/// Puts `text` into a weaker colour.
pub fn paint_dim(text: &str) -> String {
    format!("\x1b[2m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment_and_no_color_over_force() {
        let plain = ColorEnvironment::default();
        let no_color = ColorEnvironment { no_color: true, force: true, dumb: false };
        let force = ColorEnvironment { force: true, ..ColorEnvironment::default() };
        let dumb = ColorEnvironment { force: true, dumb: true, no_color: false };
        assert!(ColorChoice::Auto.is_colored(&plain, true));
        assert!(!ColorChoice::Auto.is_colored(&plain, false));
        assert!(ColorChoice::Auto.is_colored(&force, false));
        assert!(!ColorChoice::Auto.is_colored(&no_color, true));
        assert!(!ColorChoice::Auto.is_colored(&dumb, true));
        assert!(ColorChoice::Always.is_colored(&no_color, false));
        assert!(!ColorChoice::Never.is_colored(&force, true));
    }

    #[test]
    fn a_name_keeps_its_colour() {
        assert_eq!(paint_name("web", "web"), paint_name("web", "web"));
        assert!(paint_name("web", "web").ends_with("mweb\x1b[0m"));
    }
}

//! Which values of variables are shown without `--reveal`.

/// What stands for a value that is not shown.
pub(super) const HIDDEN: &str = "<hidden>";

/// Variables whose values tell nothing that is secret.
const PLAIN_NAMES: [&str; 12] = [
    "HOME",
    "INVOCATION_ID",
    "LANG",
    "LOGNAME",
    "MAINPID",
    "NOTIFY_SOCKET",
    "PATH",
    "PWD",
    "SHELL",
    "TERM",
    "TZ",
    "USER",
];

/// The same, by how they begin.
const PLAIN_PREFIXES: [&str; 4] = ["KEEPD_", "LC_", "LISTEN_", "WATCHDOG_"];

/// Reports whether the value of this variable may be a secret. Names such as PASSWORD prove
/// nothing: a database URL holds one, too. So whatever is not known to be harmless is hidden.
pub(super) fn is_secret(name: &str) -> bool {
    !PLAIN_NAMES.contains(&name) && !PLAIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns what is shown of a value.
pub(super) fn shown<'v>(name: &str, value: &'v str, reveal: bool) -> &'v str {
    if reveal || !is_secret(name) { value } else { HIDDEN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_is_hidden() {
        assert_eq!(shown("DATABASE_URL", "postgres://a:b@c/", false), HIDDEN);
        assert_eq!(shown("DATABASE_URL", "postgres://a:b@c/", true), "postgres://a:b@c/");
        assert_eq!(shown("PATH", "/bin", false), "/bin");
        assert_eq!(shown("KEEPD_SERVICE", "web", false), "web");
    }
}

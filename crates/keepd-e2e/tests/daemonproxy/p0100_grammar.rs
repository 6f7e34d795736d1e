//! Lines: comments, blanks, fields, lengths, names.

use keepd_testkit::daemonproxy::Daemonproxy;

/// `echo`, K1: the arguments come back without the word.
#[test]
fn echo_returns_everything_after_the_first_tab() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    assert_eq!(controller.ask("echo\ta\t\tb c\t"), ["a\t\tb c\t"]);
}

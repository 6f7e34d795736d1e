//! A line feed on a descriptor means ready: `ready_fd` by hand, and what a controller finds that
//! was not there when it came.
//! (behaviour 2.5, 2.13)

use keepd_testkit::Project;

use crate::b0900_protocol::{Connection, start_proxy};

#[test]
fn a_controller_that_comes_later_finds_the_line_feed() {
    let project = Project::new("");
    let proxy = start_proxy(&project);
    let socket = project.path("p.sock");
    let mut connection = Connection::extended(&socket);
    // As a program does that knows the number from its environment only, and closes it then.
    let script = "eval \"echo >&$KEEPD_READY_FD; exec $KEEPD_READY_FD>&-\"; exec sleep 1000";
    connection.accepted(&[
        &format!("service.args\tweb\tsh\t-c\t{script}"),
        "service.set\tweb\tready_fd=5",
        "service.start\tweb\t0",
    ]);
    let told = connection.hear_until("service.notify\t");
    let pid = connection.pids["web"];
    assert_eq!(told, format!("service.notify\tweb\t1\t{pid}\tREADY_FD=1"));
    drop(connection);

    let mut connection = Connection::extended(&socket);
    connection.say("statedump");
    let set = connection.hear_until("service.set\tweb\t");
    assert!(set.contains("\tready_fd=5\t"), "{set}");
    connection.hear_until("service.run\tweb\t1\tup\t");
    assert_eq!(connection.hear(), told);
    assert_eq!(connection.hear(), "dump.end\t1");

    connection.accepted(&["service.stop\tweb\t1"]);
    connection.hear_until("service.run\tweb\t1\tdown\t");
    connection.say("@9\tservice.set\tweb\tready_fd=2");
    let refusal = connection.hear_until("fail\t9\t");
    assert!(refusal.contains("\"ready_fd\" is 3 or more"), "{refusal}");
    connection.say("@10\tterminate\t0");
    proxy.wait().expect_code(0);
}

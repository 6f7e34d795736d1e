//! Takes sockets by their names from whoever started it, and says which there are.

use keepd::{Result, sockets};

fn main() -> Result<()> {
    for name in ["admin", "web", "none"] {
        match sockets::take(name)? {
            None => println!("{name}: not passed"),
            Some(socket) => {
                let kind = socket.to_string();
                println!("{name}: {kind} at {}", socket.into_tcp()?.local_addr()?);
            }
        }
        let again = sockets::take(name)?.is_some();
        println!("{name}: given away again: {again}");
    }
    Ok(())
}

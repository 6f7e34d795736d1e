//! Sockets that listened already where a service is about to listen.
//!
//! A question over a connection is answered by whoever listens. If that was somebody else before
//! the service was started, the service is not ready: it is about to fail, and who depends on it
//! would talk to a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Uri;
use keepd_engine::manager::Question;
use keepd_model::ServiceName;
use keepd_os::listeners;

use super::network::HTTP_PORT;
use crate::config::blocking;

/// How long a look whether somebody listens may take; on a loopback address it is answered at once.
const LOOK_LIMIT: Duration = Duration::from_millis(200);

/// The most descriptors that are looked at to find out who a stranger is.
const HOLDER_LOOKS_MAX: usize = 50_000;

/// What was found at the last start of each service. Whoever prepares starts writes it, whoever
/// asks questions reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strangers(Arc<Mutex<BTreeMap<ServiceName, Vec<Arc<Stranger>>>>>);

/// Who listened on a port before the service was started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    port: u16,
    inodes: BTreeSet<u64>,
    /// Process id and program, where they could be found.
    holder: Option<String>,
}

impl Strangers {
    /// Notes who listens now where these questions are going to be asked. It is said again at each
    /// start, and forgotten with [`forget`](Self::forget).
    ///
    /// Sockets that keepd itself holds for the service, once there are any, must be left out here:
    /// they listen before every start.
    pub(crate) fn note(&self, name: &ServiceName, questions: &[Question]) {
        let ports: BTreeSet<u16> = questions.iter().filter_map(local_port).collect();
        let found: Vec<_> = ports.into_iter().filter_map(look).map(Arc::new).collect();
        let mut known = self.lock();
        if found.is_empty() {
            known.remove(name);
        } else {
            known.insert(name.clone(), found);
        }
    }

    /// Forgets what was noted for a service.
    pub(super) fn forget(&self, name: &ServiceName) {
        self.lock().remove(name);
    }

    /// Returns who listened where this question is asked; `None` where nobody did, and where nobody
    /// knows: it is no local address, or a predecessor of this manager started the run. Then
    /// whoever answers is believed.
    pub(super) fn of(&self, name: &ServiceName, question: &Question) -> Option<Arc<Stranger>> {
        let port = local_port(question)?;
        self.lock().get(name)?.iter().find(|stranger| stranger.port == port).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Vec<Arc<Stranger>>>> {
        // Each change is one call, so a panic leaves nothing half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Reports whether only the stranger listens, so that whoever answers is not the service.
    pub(super) async fn is_alone(self: &Arc<Self>) -> bool {
        let stranger = Arc::clone(self);
        // The kernel makes these tables while they are read.
        let now = blocking(move || listeners::on_loopback(stranger.port)).await;
        // If nobody listens any more, connecting says it better.
        now.is_ok_and(|now| !now.is_empty() && now.is_subset(&self.inodes))
    }

    /// Returns the sentence for people.
    pub(super) fn sentence(&self) -> String {
        let port = self.port;
        let who = self.holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default();
        format!("port {port} was taken by another process before this one started{who}")
    }
}

/// Finds out who listens on a port.
fn look(port: u16) -> Option<Stranger> {
    // The tables of the kernel take long to read, and nearly always nobody listens. Who does sees
    // a connection without a word, as from any readiness question.
    if !is_served(port) {
        return None;
    }
    let inodes = listeners::on_loopback(port).ok().filter(|inodes| !inodes.is_empty())?;
    let holder =
        listeners::holder(&inodes, HOLDER_LOOKS_MAX).map(|pid| match keepd_os::proc::name(pid) {
            Some(program) => format!("{program} (pid {pid})"),
            None => format!("pid {pid}"),
        });
    Some(Stranger { port, inodes, holder })
}

/// Reports whether somebody may listen on a loopback address.
fn is_served(port: u16) -> bool {
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    addresses.into_iter().any(|address| {
        let address = SocketAddr::new(address, port);
        match TcpStream::connect_timeout(&address, LOOK_LIMIT) {
            Ok(_) => true,
            // Who has too many waiting does not answer, and listens.
            Err(error) => error.kind() == std::io::ErrorKind::TimedOut,
        }
    })
}

/// Returns the port of a question over a connection to this machine.
fn local_port(question: &Question) -> Option<u16> {
    let (host, port) = match question {
        Question::Tcp(address) => {
            let (host, port) = address.rsplit_once(':')?;
            (host.to_owned(), port.parse().ok()?)
        }
        Question::Http(url) => {
            let uri: Uri = url.parse().ok()?;
            let authority = uri.authority()?;
            (authority.host().to_owned(), authority.port_u16().unwrap_or(HTTP_PORT))
        }
        Question::Exec(_) | Question::Socket(_) | Question::File(_) | Question::Log(_) => {
            return None;
        }
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = match host.parse::<IpAddr>() {
        // Who connects to no address in particular comes to this machine.
        Ok(address) => address.is_unspecified() || address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    is_local.then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn only_this_machine_is_looked_at() {
        let tcp = |address: &str| local_port(&Question::Tcp(address.to_owned()));
        let http = |url: &str| local_port(&Question::Http(url.to_owned()));
        for address in [
            "127.0.0.1:80",
            "127.9.0.1:80",
            "localhost:80",
            "[::1]:80",
            "LocalHost:80",
            "0.0.0.0:80",
        ] {
            assert_eq!(tcp(address), Some(80), "{address}");
            assert_eq!(http(&format!("http://{address}/x")), Some(80), "{address}");
        }
        for address in ["db:80", "10.0.0.1:80", "[fe80::1]:80", "127.0.0.1", "x"] {
            assert_eq!(tcp(address), None, "{address}");
        }
        assert_eq!(http("http://localhost/"), Some(80));
        assert_eq!(http("/x:80"), None);
        assert_eq!(local_port(&Question::File("/x:80".to_owned())), None);
    }

    #[test]
    fn a_stranger_is_noted_until_the_next_start() {
        let name = ServiceName::new("web").unwrap();
        let strangers = Strangers::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let questions =
            [Question::Tcp(address.to_string()), Question::Http(format!("http://{address}/"))];
        strangers.note(&name, &questions);
        let found = strangers.of(&name, &questions[1]).unwrap();
        let sentence = format!(
            "port {} was taken by another process before this one started: ",
            address.port()
        );
        assert!(found.sentence().starts_with(&sentence), "{}", found.sentence());
        let end = format!("(pid {})", std::process::id());
        assert!(found.sentence().ends_with(&end), "{}", found.sentence());
        assert_eq!(strangers.of(&name, &Question::Tcp("127.0.0.1:1".to_owned())), None);
        block_on(async {
            assert!(found.is_alone().await);
            // The socket counts, not the process: this one is another.
            drop(listener);
            assert!(!found.is_alone().await, "nobody listens");
            let _again = TcpListener::bind(address).unwrap();
            assert!(!found.is_alone().await);
        });
        strangers.forget(&name);
        assert_eq!(strangers.of(&name, &questions[0]), None);
        strangers.note(&name, &questions[..1]);
        strangers.note(&name, &[]);
        assert!(strangers.lock().is_empty());
    }
}

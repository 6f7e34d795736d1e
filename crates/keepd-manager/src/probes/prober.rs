//! What questions need besides themselves: where logs are, and what was looked at already.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::Question;
use keepd_model::{Generation, ServiceName};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lent::{Lent, Looks};
use super::log::{LogSearch, search};
use super::network::{self, ProbeError};
use super::strangers::{Stranger, Strangers};
use crate::log_places::LogPlaces;

/// Asks readiness questions from outside.
pub(crate) struct Prober {
    logs: Arc<LogPlaces>,
    looks: Looks,
    /// Runs that were asked something which is looked at again and again.
    watched: BTreeMap<ServiceName, Watched>,
    /// Who listened before the services were started.
    strangers: Strangers,
}

/// One run.
struct Watched {
    generation: Generation,
    /// By the number of the question.
    looks: BTreeMap<usize, Look>,
}

/// What goes on between two asks of one question.
#[derive(Clone)]
enum Look {
    Path(Arc<Lent<()>>),
    Log(Arc<Watch>),
}

/// A search for a line.
struct Watch {
    search: Arc<Lent<LogSearch>>,
    /// The service wrote something.
    news: Notify,
}

impl Prober {
    /// Returns a prober for services with these logs, which are started beside these strangers.
    pub(crate) fn new(logs: Arc<LogPlaces>, strangers: Strangers) -> Self {
        Self { logs, looks: Looks::new(), watched: BTreeMap::new(), strangers }
    }

    /// Notes that a service wrote something.
    pub(crate) fn note_output(&self, name: &ServiceName) {
        let looks = self.watched.get(name).into_iter().flat_map(|watched| watched.looks.values());
        for look in looks {
            match look {
                Look::Log(watch) => watch.news.notify_one(),
                Look::Path(_) => {}
            }
        }
    }

    /// Forgets what was looked at for a service: its run is ready, or over.
    pub(crate) fn forget(&mut self, name: &ServiceName) {
        self.watched.remove(name);
        self.strangers.forget(name);
    }

    /// Returns the answer to a question; no answer within the limit is an answer, too.
    pub(crate) fn ask(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        index: usize,
        question: Question,
        limit: Duration,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let look = self.look(name, generation, index, &question);
        let looks = self.looks.clone();
        let stranger = self.strangers.of(name, &question);
        async move {
            // What is said of a question that finds no answer in time.
            let silence = match question {
                Question::Log(_) => "no line matches",
                Question::Tcp(_)
                | Question::Http(_)
                | Question::Exec(_)
                | Question::Socket(_)
                | Question::File(_) => "timed out",
            };
            let answer = async {
                refuse_stranger(stranger).await?;
                answer(&looks, look, &question).await
            };
            match timeout(limit, answer).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(silence.to_owned()),
            }
        }
    }

    /// Returns what goes on for a question, as far as it needs more than itself.
    fn look(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        index: usize,
        question: &Question,
    ) -> Option<Look> {
        let is_log = match question {
            Question::Log(_) => true,
            Question::Socket(_) | Question::File(_) => false,
            Question::Tcp(_) | Question::Http(_) | Question::Exec(_) => return None,
        };
        let fresh = || Watched { generation, looks: BTreeMap::new() };
        if self.watched.get(name).is_none_or(|watched| watched.generation != generation) {
            self.watched.insert(name.clone(), fresh());
        }
        if let Some(look) = self.watched.get(name).and_then(|watched| watched.looks.get(&index))
            && matches!(look, Look::Log(_)) == is_log
        {
            return Some(look.clone());
        }
        let look = if is_log {
            let search = Lent::new(LogSearch::new(self.logs.log(name), generation));
            Look::Log(Arc::new(Watch { search, news: Notify::new() }))
        } else {
            Look::Path(Lent::new(()))
        };
        let watched = self.watched.entry(name.clone()).or_insert_with(fresh);
        watched.looks.insert(index, look.clone());
        Some(look)
    }
}

/// Refuses to ask where only somebody listens who did so before the service was started.
async fn refuse_stranger(stranger: Option<Arc<Stranger>>) -> Result<(), ProbeError> {
    match stranger {
        Some(stranger) if stranger.is_alone().await => Err(ProbeError::Taken(stranger.sentence())),
        Some(_) | None => Ok(()),
    }
}

async fn answer(looks: &Looks, look: Option<Look>, question: &Question) -> Result<(), ProbeError> {
    match (question, look) {
        (Question::Tcp(address), _) => network::tcp(address).await,
        (Question::Http(url), _) => network::http(url).await,
        (Question::Socket(path), Some(Look::Path(lent))) => {
            // Connecting looks the path up, too, and on this thread.
            if !path.starts_with('@') {
                exists(looks, &lent, path).await?;
            }
            network::socket(path).await
        }
        (Question::File(path), Some(Look::Path(lent))) => exists(looks, &lent, path).await,
        (Question::Log(pattern), Some(Look::Log(watch))) => {
            search(looks, &watch.search, &watch.news, pattern).await
        }
        (Question::Exec(_), _) => Err(ProbeError::Unfit("a command is run by the proxy")),
        (Question::Socket(_) | Question::File(_) | Question::Log(_), None | Some(_)) => {
            Err(ProbeError::Unfit("the question does not fit what is looked at"))
        }
    }
}

/// Looks whether a path is there, on another thread: a file system may not answer.
async fn exists(looks: &Looks, lent: &Arc<Lent<()>>, path: &str) -> Result<(), ProbeError> {
    let path = PathBuf::from(path);
    let found: io::Result<()> = lent.work(looks, move |()| look_at(&path)).await;
    found.map_err(ProbeError::Path)
}

fn look_at(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;
    use crate::logs::written::Written;
    use keepd_model::protocol::LogTarget;
    use keepd_model::protocol::Stream::{Err as Error, Out};
    use keepd_testkit::Scratch;
    use tokio::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(10);
    /// For questions that find no answer.
    const SHORT: Duration = Duration::from_millis(30);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    /// The log folders of this instance are where [`Written`] makes them.
    fn prober(scratch: &Scratch) -> Prober {
        let path = scratch.path().to_owned();
        let instance = Instance {
            name: "shop-1".into(),
            run_dir: path.clone(),
            state_dir: path.clone(),
            log_dir: path.clone(),
            config_dir: path,
        };
        Prober::new(Arc::new(LogPlaces::new(Arc::new(instance))), Strangers::default())
    }

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    impl Prober {
        fn ask_web(
            &mut self,
            generation: u64,
            question: Question,
            limit: Duration,
        ) -> impl Future<Output = Result<(), String>> + Send + use<> {
            self.ask(&web(), Generation::new(generation), 0, question, limit)
        }
    }

    fn log(pattern: &str) -> Question {
        Question::Log(pattern.to_owned())
    }

    #[test]
    fn silence_ends_with_the_limit() {
        let scratch = Scratch::new();
        let mut prober = prober(&scratch);
        block_on(async {
            // It listens, so the kernel accepts, but nobody answers.
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let question = Question::Http(format!("http://{}/", listener.local_addr().unwrap()));
            let outcome = prober.ask_web(1, question, SHORT).await;
            assert_eq!(outcome, Err("timed out".to_owned()));
        });
    }

    #[test]
    fn who_listened_before_the_start_is_not_believed() {
        // (behaviour 7.12)
        let scratch = Scratch::new();
        let mut prober = prober(&scratch);
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let question = Question::Tcp(address.to_string());
            // Nothing was noted: a predecessor started it.
            assert_eq!(prober.ask_web(1, question.clone(), LIMIT).await, Ok(()));
            prober.strangers.note(&web(), std::slice::from_ref(&question));
            let taken = prober.ask_web(2, question.clone(), LIMIT).await.unwrap_err();
            let sentence = format!("port {} was taken by another process ", address.port());
            assert!(taken.starts_with(&sentence), "{taken}");
            drop(listener);
            let refused = Err("connection refused".to_owned());
            assert_eq!(prober.ask_web(2, question.clone(), LIMIT).await, refused);
            let _own = tokio::net::TcpListener::bind(address).await.unwrap();
            assert_eq!(prober.ask_web(2, question, LIMIT).await, Ok(()));
            prober.forget(&web());
        });
    }

    #[test]
    fn a_unix_socket_is_connected_to() {
        let scratch = Scratch::new();
        let mut prober = prober(&scratch);
        block_on(async {
            let path = scratch.path().join("web.sock");
            let question = Question::Socket(path.to_str().unwrap().to_owned());
            let missing = Err("no such file or directory".to_owned());
            assert_eq!(prober.ask_web(1, question.clone(), LIMIT).await, missing);
            let listener = UnixListener::bind(&path).unwrap();
            assert_eq!(prober.ask_web(1, question.clone(), LIMIT).await, Ok(()));
            drop(listener);
            let refused = Err("connection refused".to_owned());
            assert_eq!(prober.ask_web(1, question, LIMIT).await, refused);
        });
    }

    #[test]
    fn an_abstract_socket_has_no_path() {
        let scratch = Scratch::new();
        let mut prober = prober(&scratch);
        block_on(async {
            let name = format!("keepd-test-{}", scratch.path().display());
            let question = Question::Socket(format!("@{name}"));
            let refused = Err("connection refused".to_owned());
            assert_eq!(prober.ask_web(1, question.clone(), LIMIT).await, refused);
            let _listener = UnixListener::bind(format!("\0{name}")).unwrap();
            assert_eq!(prober.ask_web(1, question, LIMIT).await, Ok(()));
        });
    }

    #[test]
    fn a_file_is_there_or_not() {
        let scratch = Scratch::new();
        let mut prober = prober(&scratch);
        block_on(async {
            let path = scratch.path().join("ready");
            let question = Question::File(path.to_str().unwrap().to_owned());
            let missing = Err("no such file or directory".to_owned());
            assert_eq!(prober.ask_web(1, question.clone(), LIMIT).await, missing);
            fs::write(&path, "").unwrap();
            assert_eq!(prober.ask_web(1, question, LIMIT).await, Ok(()));
        });
    }

    #[test]
    fn a_line_of_either_stream_is_found_as_soon_as_it_is_told_of() {
        let scratch = Scratch::new();
        let mut written = Written::new(&scratch, "web");
        let mut prober = prober(&scratch);
        written.start(1, 0);
        written.chunk(Out, 1, b"listening on 80\n");
        written.start(2, 0);
        block_on(async {
            let silence = Err("no line matches".to_owned());
            assert_eq!(prober.ask_web(2, log("^listening on [0-9]+$"), SHORT).await, silence);
            let asked = tokio::spawn(prober.ask_web(2, log("^listening on [0-9]+$"), LIMIT));
            written.chunk(Out, 2, b"hello\n");
            prober.note_output(&web());
            written.chunk(Error, 3, b"listening on 81");
            prober.note_output(&web());
            assert_eq!(asked.await.unwrap(), Ok(()));
            prober.forget(&web());
            prober.note_output(&web());
        });
    }

    #[test]
    fn a_successor_finds_the_line_again() {
        let scratch = Scratch::new();
        let mut written = Written::new(&scratch, "web");
        written.start(1, 0);
        written.chunk(Out, 1, b"ready\nmore\n");
        block_on(async {
            for _ in 0..2 {
                assert_eq!(prober(&scratch).ask_web(1, log("ready"), LIMIT).await, Ok(()));
            }
        });
    }

    #[test]
    fn another_pattern_is_looked_for_from_the_beginning() {
        let scratch = Scratch::new();
        let mut written = Written::new(&scratch, "web");
        let mut prober = prober(&scratch);
        written.start(1, 0);
        written.chunk(Out, 1, b"ready\n");
        block_on(async {
            assert!(prober.ask_web(1, log("steady"), SHORT).await.is_err());
            assert_eq!(prober.ask_web(1, log("ready"), LIMIT).await, Ok(()));
            let refused = prober.ask_web(1, log("("), LIMIT).await.unwrap_err();
            assert!(refused.starts_with("cannot use the regular expression: "), "{refused}");
        });
    }

    #[test]
    fn output_that_is_kept_nowhere_has_no_lines() {
        let scratch = Scratch::new();
        let mut written = Written::new(&scratch, "web");
        let mut prober = prober(&scratch);
        written.start(1, 0);
        written.chunk(Out, 1, b"ready\n");
        prober.logs.note_log(&web(), &LogTarget::Null);
        block_on(async {
            let refused = prober.ask_web(1, log("ready"), LIMIT).await;
            assert_eq!(refused, Err("log.mode does not keep its lines in files".to_owned()));
            let dir = written.log().dir.into_os_string().into_encoded_bytes();
            prober.logs.note_log(&web(), &LogTarget::File { dir, merge: false });
            assert!(prober.logs.is_empty(), "the default place needs no memory");
            assert_eq!(prober.ask_web(2, log("x"), SHORT).await.unwrap_err(), "no line matches");
        });
    }

    #[test]
    fn a_look_that_hangs_costs_one_thread() {
        block_on(async {
            let lent = Lent::new(());
            let looks = Looks::new();
            let (release, wait) = std::sync::mpsc::channel::<()>();
            let hung = lent.work(&looks, move |()| wait.recv());
            assert!(timeout(SHORT, hung).await.is_err());
            let again = lent.work(&looks, |()| ());
            assert!(timeout(SHORT, again).await.is_err(), "the first one still hangs");
            drop(release);
            timeout(LIMIT, lent.work(&looks, |()| ())).await.expect("it came back");
        });
    }
}

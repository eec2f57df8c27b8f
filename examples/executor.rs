//! Futures on kevio: an executor of one thread, with streams, timers and results of other threads. The program is an echo server
//! and its own clients, and ends by itself.
//!
//! ```sh
//! cargo run --example executor
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{poll_fn, Future};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll as State, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use kevio::event::Source;
use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Registry, Timer, Token};

/// The key of the future of `block_on`, which is in no slot.
const MAIN: usize = usize::MAX;
/// The token of the waker that ends a blocked wait.
const WAKE: Token = Token(usize::MAX);

/// Values with a key each. A slot without a value is free, or is kept while its value is elsewhere.
struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slab<T> {
    const fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, value: Option<T>) -> usize {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[key] = value;
        key
    }

    fn remove(&mut self, key: usize) -> Option<T> {
        self.free.push(key);
        self.slots[key].take()
    }
}

/// The keys of the tasks that can make progress. The wakers of all tasks share it, also in other threads.
struct Ready {
    state: Mutex<ReadyState>,
    waker: kevio::Waker,
}

#[derive(Default)]
struct ReadyState {
    keys: BTreeSet<usize>,
    /// The executor has found no key, and waits for events or is about to.
    is_waiting: bool,
}

impl Ready {
    fn add(&self, key: usize) {
        let mut state = self.state.lock().expect("no holder panics");
        state.keys.insert(key);
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state); // The woken thread needs the lock.
        if is_waiting {
            // If the wake fails, because other code has closed the descriptor, the poll fails too.
            let _ = self.waker.wake();
        }
    }

    /// Takes all keys. If there are none, the next `add` wakes the poll.
    fn take_or_wait(&self) -> BTreeSet<usize> {
        let mut state = self.state.lock().expect("no holder panics");
        state.is_waiting = state.keys.is_empty();
        std::mem::take(&mut state.keys)
    }

    /// Ends the wait, so that tasks of this thread that wake each other make no system call.
    fn end_wait(&self) {
        self.state.lock().expect("no holder panics").is_waiting = false;
    }
}

/// The waker of one task. A late wake may name the next task with the same key, which is polled once too often.
struct TaskWaker {
    key: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.add(self.key);
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The part of the executor that tasks use.
struct Shared {
    registry: Registry,
    ready: Arc<Ready>,
    tasks: RefCell<Slab<Task>>,
    /// A slot for each registered source, whose token is the key. The slot holds the waker of the future that waits.
    waiters: RefCell<Slab<Waker>>,
}

impl Shared {
    /// Starts a task. The result is a future of its output.
    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> impl Future<Output = T> {
        let (promise, output) = promise();
        let key = self.tasks.borrow_mut().insert(Some(Box::pin(async move { promise.keep(future.await) })));
        self.ready.add(key);
        output
    }
}

struct Executor {
    poll: Poll,
    events: Events,
    shared: Rc<Shared>,
    /// The tasks that are still to be polled before the next wait.
    round: BTreeSet<usize>,
}

impl Executor {
    fn new() -> io::Result<Executor> {
        let poll = Poll::new()?;
        let waker = kevio::Waker::new(poll.registry(), WAKE)?;
        let shared = Rc::new(Shared {
            registry: poll.registry().try_clone()?,
            ready: Arc::new(Ready { state: Mutex::default(), waker }),
            tasks: RefCell::new(Slab::new()),
            waiters: RefCell::new(Slab::new()),
        });
        Ok(Executor { poll, events: Events::with_capacity(256), shared, round: BTreeSet::new() })
    }

    fn waker(&self, key: usize) -> Waker {
        Waker::from(Arc::new(TaskWaker { key, ready: Arc::clone(&self.shared.ready) }))
    }

    /// Runs all tasks until this future is ready. Tasks that are not ready then continue in the next call.
    fn block_on<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        let waker = self.waker(MAIN);
        self.round.insert(MAIN);
        loop {
            while let Some(key) = self.round.pop_first() {
                if key != MAIN {
                    self.run_task(key);
                } else if let State::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            // Each round is followed by a poll, so that tasks that wake each other do not keep events waiting.
            self.round = self.shared.ready.take_or_wait();
            let deadline = if self.round.is_empty() { None } else { Some(Instant::now()) };
            self.poll.poll_until(&mut self.events, deadline)?;
            self.shared.ready.end_wait();
            for event in self.events.iter().filter(|event| event.token() != WAKE) {
                // The statement ends the borrow, because waking may run any code. A source that was dropped since the poll has
                // an empty slot, or another source has its key: then a future is polled once too often.
                let waiter = self.shared.waiters.borrow_mut().slots[event.token().0].take();
                waiter.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn run_task(&self, key: usize) {
        // The slot is empty while the task runs, and keeps its key. It is also empty after a late wake.
        let task = self.shared.tasks.borrow_mut().slots[key].take();
        let Some(mut task) = task else { return };
        match task.as_mut().poll(&mut Context::from_waker(&self.waker(key))) {
            State::Pending => self.shared.tasks.borrow_mut().slots[key] = Some(task),
            State::Ready(()) => drop(self.shared.tasks.borrow_mut().remove(key)),
        }
    }
}

/// Tasks own the shared part, which owns the tasks. Therefore they end with the executor.
impl Drop for Executor {
    fn drop(&mut self) {
        drop(self.shared.tasks.replace(Slab::new()));
    }
}

/// A registered source of any type. Dropping it ends the registration.
struct Async<S: Source> {
    source: S,
    key: usize,
    shared: Rc<Shared>,
}

impl<S: Source> Async<S> {
    fn new(shared: &Rc<Shared>, mut source: S, interest: Interest) -> io::Result<Async<S>> {
        let key = shared.waiters.borrow_mut().insert(None);
        if let Err(error) = shared.registry.register(&mut source, Token(key), interest) {
            shared.waiters.borrow_mut().remove(key);
            return Err(error);
        }
        Ok(Async { source, key, shared: Rc::clone(shared) })
    }

    /// Repeats an operation at each event, until its result is not `WouldBlock`. `&mut self` ensures that one future waits.
    async fn operate<T>(&mut self, mut operation: impl FnMut(&mut S) -> io::Result<T>) -> io::Result<T> {
        poll_fn(|context| loop {
            match operation(&mut self.source) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // No event is missed: after `WouldBlock` the next one is guaranteed, and this thread handles it later.
                    let waker = context.waker().clone();
                    let before = self.shared.waiters.borrow_mut().slots[self.key].replace(waker);
                    drop(before);
                    return State::Pending;
                }
                result => return State::Ready(result),
            }
        })
        .await
    }
}

impl<S: Source> Drop for Async<S> {
    fn drop(&mut self) {
        // A source that was registered is deregistered without an error, unless other code has closed its descriptor.
        let _ = self.shared.registry.deregister(&mut self.source);
        let waiter = self.shared.waiters.borrow_mut().remove(self.key);
        drop(waiter);
    }
}

impl Async<TcpStream> {
    async fn connect(shared: &Rc<Shared>, address: SocketAddr) -> io::Result<Async<TcpStream>> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let mut stream = Async::new(shared, TcpStream::connect(address)?, both)?;
        // `try_io` arms the next event on poll(2), as a read or a write does.
        let connected = |stream: &TcpStream| match (stream.take_error()?, stream.peer_addr()) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
            (None, result) => result.map(drop),
        };
        stream.operate(|stream| stream.try_io(|| connected(stream))).await?;
        Ok(stream)
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.operate(|stream| stream.read(buffer)).await
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.operate(|stream| stream.write(bytes)).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }
}

async fn sleep(shared: &Rc<Shared>, duration: Duration) -> io::Result<()> {
    let mut timer = Async::new(shared, Timer::after(duration)?, Interest::READABLE)?;
    // A timer is never early: after its event no time remains.
    let passed = |timer: &mut Timer| match timer.remaining() {
        Some(duration) if !duration.is_zero() => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    };
    timer.operate(passed).await
}

/// Returns `None` if the time passes before the future is ready. The future is dropped, and with it what it has registered.
async fn timeout<F: Future>(shared: &Rc<Shared>, duration: Duration, future: F) -> io::Result<Option<F::Output>> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep(shared, duration)));
    poll_fn(|context| match future.as_mut().poll(context) {
        State::Ready(output) => State::Ready(Ok(Some(output))),
        State::Pending => sleep.as_mut().poll(context).map_ok(|()| None),
    })
    .await
}

/// A value that a task or a thread computes, and the waker of the future that waits for it.
struct Promise<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

fn promise<T>() -> (Promise<T>, impl Future<Output = T>) {
    let cell = Arc::new(Mutex::new((None, None)));
    let promise = Promise(Arc::clone(&cell));
    let output = poll_fn(move |context| {
        let waker = context.waker().clone();
        let mut cell = cell.lock().expect("no holder panics");
        if let Some(value) = cell.0.take() {
            return State::Ready(value);
        }
        let before = cell.1.replace(waker);
        drop(cell); // Dropping the waker may run any code.
        drop(before);
        State::Pending
    });
    (promise, output)
}

impl<T> Promise<T> {
    fn keep(self, value: T) {
        let mut cell = self.0.lock().expect("no holder panics");
        cell.0 = Some(value);
        let waker = cell.1.take();
        drop(cell);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A client that sends nothing for this long is disconnected.
const QUIET: Duration = Duration::from_millis(100);
const CLIENTS: usize = 20;

fn main() -> io::Result<()> {
    let mut executor = Executor::new()?;
    let shared = Rc::clone(&executor.shared);
    executor.block_on(demonstrate(&shared))??;
    let waiters = shared.waiters.borrow();
    assert_eq!(waiters.slots.len(), waiters.free.len(), "a source is still registered");
    println!("ok");
    Ok(())
}

async fn demonstrate(shared: &Rc<Shared>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let address = listener.local_addr()?;
    let server = shared.spawn(serve(Rc::clone(shared), listener));
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| shared.spawn(run_client(Rc::clone(shared), address, number))).collect();
    for client in clients {
        client.await?;
    }
    println!("{CLIENTS} clients: the echoes are right, and quiet clients were disconnected");
    server.await?;

    // A thread computes what would take too long here, and its wake ends the wait of the executor.
    let (promise, sum) = promise();
    let thread = thread::spawn(move || promise.keep((1..=1_000_000_u64).sum::<u64>()));
    println!("a thread: {}", sum.await);
    thread.join().expect("the thread failed");
    Ok(())
}

/// Accepts all clients, and starts a task for each.
async fn serve(shared: Rc<Shared>, listener: TcpListener) -> io::Result<()> {
    let mut listener = Async::new(&shared, listener, Interest::READABLE)?;
    let mut tasks = Vec::new();
    while tasks.len() < CLIENTS {
        match listener.operate(|listener| listener.accept()).await {
            Ok((stream, _)) => tasks.push(shared.spawn(echo(Rc::clone(&shared), stream))),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // The clients that cannot be accepted now, because no descriptor is left, stay in the queue of the listener.
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(&shared, QUIET).await?;
            }
        }
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn echo(shared: Rc<Shared>, stream: TcpStream) -> io::Result<()> {
    let mut stream = Async::new(&shared, stream, Interest::READABLE | Interest::WRITABLE)?;
    let mut buffer = [0; 4096];
    loop {
        match timeout(&shared, QUIET, stream.read(&mut buffer)).await? {
            None | Some(Ok(0)) => return Ok(()),
            Some(result) => stream.write_all(&buffer[..result?]).await?,
        }
    }
}

/// Sends messages of increasing size and reads the echoes. Then every other client is quiet until the server disconnects.
async fn run_client(shared: Rc<Shared>, address: SocketAddr, number: usize) -> io::Result<()> {
    let mut stream = Async::connect(&shared, address).await?;
    for round in 0..5 {
        let message = vec![number as u8; 1 + round * 1000];
        stream.write_all(&message).await?;
        let (mut echo, mut length) = (vec![0; message.len()], 0);
        while length < echo.len() {
            match stream.read(&mut echo[length..]).await? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => length += n,
            }
        }
        assert_eq!(echo, message);
        sleep(&shared, Duration::from_millis(1)).await?;
    }
    if number % 2 == 0 {
        let start = Instant::now();
        assert_eq!(stream.read(&mut [0; 16]).await?, 0, "the server disconnects");
        assert!(start.elapsed() <= 100 * QUIET);
    }
    Ok(())
}

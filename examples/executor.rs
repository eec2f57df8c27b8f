//! Futures on kevio: an executor of one thread in about 100 lines, and an echo server with its clients, which ends by itself.
//!
//! ```sh
//! cargo run --example executor
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::{poll_fn, Future};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll as State, Wake, Waker};
use std::time::Duration;

use kevio::event::Source;
use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Registry, Timer, Token};

/// The key of a task, the keys of all woken tasks, and the waker of the poll. Any thread may wake a task.
struct TaskWaker(usize, Arc<(Mutex<BTreeSet<usize>>, kevio::Waker)>);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let (woken, waker) = &*self.1;
        woken.lock().unwrap().insert(self.0);
        // If the wake fails, because other code has closed the descriptor of the poll, the poll fails too.
        let _ = waker.wake();
    }
}

type Task = (Pin<Box<dyn Future<Output = ()>>>, Waker);

/// The part of the executor that tasks use.
struct Executor {
    registry: Registry,
    woken: Arc<(Mutex<BTreeSet<usize>>, kevio::Waker)>,
    spawned: RefCell<HashMap<usize, Task>>,
    /// For each registered source, the waker of the future that waits for the source.
    waiters: RefCell<HashMap<Token, Rc<Cell<Option<Waker>>>>>,
    /// The next token, or key of a task. Each is used once.
    next: Cell<usize>,
}

impl Executor {
    /// Starts a task. The result is a future of its output. If that future is dropped, the task continues.
    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> impl Future<Output = T> {
        let result = Rc::new((Cell::new(None), Cell::new(None::<Waker>)));
        let output = Rc::clone(&result);
        let task = async move {
            result.0.set(Some(future.await));
            result.1.take().into_iter().for_each(Waker::wake);
        };
        let key = self.next.replace(self.next.get() + 1);
        let waker = Waker::from(Arc::new(TaskWaker(key, Arc::clone(&self.woken))));
        waker.wake_by_ref();
        self.spawned.borrow_mut().insert(key, (Box::pin(task), waker));
        poll_fn(move |context| {
            output.1.set(Some(context.waker().clone()));
            output.0.take().map_or(State::Pending, State::Ready)
        })
    }
}

/// Runs a future and the tasks that it spawns. When the future is ready, the tasks that remain are dropped.
fn block_on<T: 'static, F: Future<Output = T> + 'static>(start: impl FnOnce(Rc<Executor>) -> F) -> io::Result<T> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let (registry, waker) = (poll.registry().try_clone()?, kevio::Waker::new(poll.registry(), Token(0))?);
    let (woken, spawned, waiters) = (Arc::new((Mutex::default(), waker)), RefCell::default(), RefCell::default());
    let executor = Rc::new(Executor { registry, woken, spawned, waiters, next: Cell::new(1) });
    let (future, output) = (start(Rc::clone(&executor)), Rc::new(Cell::new(None)));
    let result = Rc::clone(&output);
    drop(executor.spawn(async move { result.set(Some(future.await)) }));
    let mut tasks = executor.spawned.take();
    loop {
        let woken = std::mem::take(&mut *executor.woken.0.lock().unwrap());
        for key in woken {
            let Some((future, waker)) = tasks.get_mut(&key) else { continue }; // The task has ended before this wake.
            if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                tasks.remove(&key);
            }
        }
        tasks.extend(executor.spawned.take());
        if let Some(output) = output.take() {
            return Ok(output);
        }
        // If a task has been woken since, the poll does not block, and reports the events of sources all the same.
        poll.poll_until(&mut events, None)?;
        for event in &events {
            // This statement ends the borrow, because waking may run any code.
            let waiter = executor.waiters.borrow().get(&event.token()).and_then(|waiter| waiter.take());
            waiter.into_iter().for_each(Waker::wake);
        }
    }
}

/// A registered source. Dropping it drops the source, which ends the registration.
struct Async<S: Source> {
    source: S,
    token: Token,
    waiter: Rc<Cell<Option<Waker>>>,
    executor: Rc<Executor>,
}

impl<S: Source> Async<S> {
    fn new(executor: &Rc<Executor>, mut source: S, interest: Interest) -> io::Result<Async<S>> {
        let (token, waiter) = (Token(executor.next.replace(executor.next.get() + 1)), Rc::default());
        executor.registry.register(&mut source, token, interest)?;
        executor.waiters.borrow_mut().insert(token, Rc::clone(&waiter));
        Ok(Async { source, token, waiter, executor: Rc::clone(executor) })
    }

    /// Repeats an operation at each event, until its result is not `WouldBlock`. `&mut self` ensures that one future waits.
    async fn operate<T>(&mut self, mut operation: impl FnMut(&mut S) -> io::Result<T>) -> io::Result<T> {
        poll_fn(|context| loop {
            match operation(&mut self.source) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // No event is missed: after `WouldBlock` the next one is guaranteed, and this thread handles it later.
                    self.waiter.set(Some(context.waker().clone()));
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
        self.executor.waiters.borrow_mut().remove(&self.token); // The waker is dropped later, with the field.
    }
}

async fn sleep(executor: &Rc<Executor>, duration: Duration) -> io::Result<()> {
    let mut timer = Async::new(executor, Timer::after(duration)?, Interest::READABLE)?;
    let remains = |timer: &Timer| timer.remaining().is_some_and(|time| !time.is_zero()); // `false` after the event.
    timer.operate(|timer| if remains(timer) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }).await
}

/// Lets the other tasks run, and the poll report events.
async fn yield_now() {
    let mut has_yielded = false;
    let state = |context: &mut Context<'_>| {
        if std::mem::replace(&mut has_yielded, true) {
            return State::Ready(());
        }
        context.waker().wake_by_ref();
        State::Pending
    };
    poll_fn(state).await;
}

async fn serve(executor: Rc<Executor>, listener: TcpListener) -> io::Result<()> {
    let mut listener = Async::new(&executor, listener, Interest::READABLE)?;
    loop {
        match listener.operate(|listener| listener.accept()).await {
            Ok((stream, _)) => drop(executor.spawn(echo(Rc::clone(&executor), stream))),
            // The client has gone, or no descriptor is free.
            Err(_) => sleep(&executor, Duration::from_millis(10)).await?,
        }
    }
}

async fn echo(executor: Rc<Executor>, stream: TcpStream) -> io::Result<()> {
    let mut stream = Async::new(&executor, stream, Interest::READABLE | Interest::WRITABLE)?;
    let mut buffer = [0; 4096];
    loop {
        let (length, mut sent) = (stream.operate(|stream| stream.read(&mut buffer)).await?, 0);
        if length == 0 {
            return Ok(());
        }
        while sent < length {
            sent += stream.operate(|stream| stream.write(&buffer[sent..length])).await?;
        }
        yield_now().await; // A client that sends without a pause does not delay the others.
    }
}

async fn run_client(executor: Rc<Executor>, address: SocketAddr) -> io::Result<()> {
    let mut stream = Async::new(&executor, TcpStream::connect(address)?, Interest::READABLE | Interest::WRITABLE)?;
    let check_connected = |stream: &TcpStream| {
        stream.take_error()?.map_or(Ok(()), Err)?;
        let pending = |error: &io::Error| error.kind() == ErrorKind::NotConnected;
        stream.peer_addr().map_err(|error| if pending(&error) { ErrorKind::WouldBlock.into() } else { error })
    };
    // `try_io` arms the next event on poll(2), as a read or a write does.
    stream.operate(|stream| stream.try_io(|| check_connected(stream))).await?;
    for byte in 1..10 {
        stream.operate(|stream| stream.write(&[byte])).await?;
        sleep(&executor, Duration::from_millis(1)).await?;
        let mut echo = [0];
        stream.operate(|stream| stream.read(&mut echo)).await?;
        assert_eq!(echo, [byte]);
    }
    Ok(())
}

fn main() -> io::Result<()> {
    block_on(|executor| async move {
        let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
        let address = listener.local_addr()?;
        drop(executor.spawn(serve(Rc::clone(&executor), listener)));
        let start_client = |_| executor.spawn(run_client(Rc::clone(&executor), address));
        for client in (0..20).map(start_client).collect::<Vec<_>>() {
            client.await?;
        }
        println!("ok");
        io::Result::Ok(())
    })?
}

/// The name of a registration: a program registers a source under a token, and the events of the source contain the token.
///
/// A token is any `usize`: an index into a slab, a pointer, a number. kevio does not interpret the value. Every value is valid,
/// including 0 and `usize::MAX`, and is returned bit for bit. On kqueue, the `udata` of the knote holds the token.
///
/// Several sources may share one token. Then a program cannot distinguish their events.
///
/// # Examples
///
/// ```
/// use kevio::Token;
///
/// const LISTENER: Token = Token(0);
/// assert_eq!(usize::from(LISTENER), 0);
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

impl From<Token> for usize {
    fn from(token: Token) -> usize {
        token.0
    }
}

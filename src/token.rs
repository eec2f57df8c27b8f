/// Names a registration: what a program registers a source under, and what its events carry.
///
/// A token is any `usize`: an index into a slab, a pointer, a number. kevio never interprets it. Every value is
/// legal, 0 and `usize::MAX` included, and comes back bit for bit; on kqueue it travels in `udata`.
///
/// Several sources may share one token; their events cannot be told apart then.
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

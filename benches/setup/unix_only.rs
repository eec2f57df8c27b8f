//! What a bench does on a system that is no Unix, if its cases consist of calls of Unix.

pub fn main() {
    println!("NOT MEASURED: this bench compares with calls of Unix, which this system does not have");
}

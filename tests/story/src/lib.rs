//! `#[story]` in place of `#[test]`: a test of what the kernel tells of traffic.
//!
//! Contract: the test's body goes to `common::again::played`, which may play it
//! again where the kernel, and not the program, is why it failed.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a function without arguments and result a test that may be played again.
#[proc_macro_attribute]
pub fn story(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let Some(TokenTree::Group(body)) = tokens.pop() else {
        panic!("#[story] wants a function");
    };
    let mut played: TokenStream = "common::again::played".parse().expect("a path");
    let mut closure: TokenStream = "||".parse().expect("its arguments");
    closure.extend([TokenTree::Group(body)]);
    played.extend([TokenTree::Group(Group::new(
        Delimiter::Parenthesis,
        closure,
    ))]);
    let mut test: TokenStream = "#[test]".parse().expect("an attribute");
    test.extend(tokens);
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, played))]);
    test
}

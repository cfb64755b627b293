"""Operations: each a plain-torch reference and a wrapper that takes the native kernel where it can."""

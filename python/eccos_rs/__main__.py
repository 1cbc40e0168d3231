"""`python -m eccos_rs` is `eccos`."""

from eccos_rs.cli.main import main

if __name__ == "__main__":
    main()

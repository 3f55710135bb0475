"""The controller process: a source, the compiler and the servers, wired together."""

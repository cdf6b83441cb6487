"""Runs model files inside this process with llama.cpp, through the package of the extra `mixtura[local]`.

header         reads and checks a GGUF file before llama.cpp opens it    kinds      tables of the file format
machine        processor, cores and memory of this machine               settings   threads, slots and context
trial          loads a file in a child process first                     llama      the shared server of a file
socket_server  HTTP requests to a server over its socket                 slots      the queue for a file's slots
request        encodes a request for llama.cpp                           model      the `ChatModel`
names          the names that users gave to files                        provider   finds a model by name or path
"""

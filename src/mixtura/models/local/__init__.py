"""Model files run inside this process by llama.cpp, through the package of the extra `mixtura[local]`.

header      reads and checks a GGUF file before llama.cpp sees it     kinds     tables of the format
machine     what this machine can run                                 settings  threads, slots and context
trial       loads a file in a process of its own first                door      what is asked over the server's socket
llama       one server a file, shared, freed when unused              line      who waits for a slot
request     a request as llama.cpp reads it                           model     the ChatModel
names       names that were given to files                            provider  from a name or path to a model
"""

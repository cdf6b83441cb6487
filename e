timeout: failed to run command ‘mixtura’: No such file or directory

def read_mask(location):
    raise NotImplementedError

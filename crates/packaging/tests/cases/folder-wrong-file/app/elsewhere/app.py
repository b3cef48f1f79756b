raise Exception('the wrong file')

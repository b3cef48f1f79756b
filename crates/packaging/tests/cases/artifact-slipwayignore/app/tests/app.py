def handler(event, context):
    return 'hello'
# a path that is named is never left out

export function response(ctx) { return ctx.result }

export function request(ctx) {}

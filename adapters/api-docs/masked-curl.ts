interface Headers {
  has(name: string): boolean;
  set(name: string, value: string): Headers;
}

/** An Immutable map, as Swagger UI keeps a request. */
interface ShownRequest {
  get(name: "headers"): Headers | undefined;
  set(name: "headers", headers: Headers): ShownRequest;
}

interface System {
  React: { createElement(component: unknown, props: object): unknown };
}

/** A plugin of Swagger UI: the command that it shows for copying names the place of the API key, and not the key. */
export const maskedCurl = {
  wrapComponents: {
    curl:
      (Curl: unknown, { React }: System) =>
      ({ request, ...others }: { request: ShownRequest }) =>
        React.createElement(Curl, { ...others, request: masked(request) }),
  },
};

function masked(request: ShownRequest): ShownRequest {
  const headers = request.get("headers");
  const name = ["Authorization", "authorization"].find((one) => headers?.has(one));
  return headers && name ? request.set("headers", headers.set(name, "Bearer YOUR_API_KEY")) : request;
}

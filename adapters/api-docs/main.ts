// The API reference: the page at /docs that shows /openapi.json with Swagger UI. It shares the key of the tab and the address
// of the Hub with the console, and may import ../console/session.ts and ../console/base.ts for that.
import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

import { BASE } from "../console/base.ts";
import { keyOfThisTab } from "../console/session.ts";
import { fillForms, type Document } from "./forms.ts";
import { maskedCurl } from "./masked-curl.ts";

const key = keyOfThisTab();
const response = await fetch(`${BASE}/openapi.json`);
const document = (await response.json()) as Document;

/** The reference of the served document, where requests can be tried with a key. */
const reference = SwaggerUI({
  spec: await fillForms(document, BASE, key),
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  tryItOutEnabled: true,
  plugins: [maskedCurl],
  // The badge of a validator on another host.
  validatorUrl: null,
  persistAuthorization: false,
  onComplete() {
    if (key !== undefined) reference.preauthorizeApiKey("bearer", key);
  },
});

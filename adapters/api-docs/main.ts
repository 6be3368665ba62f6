// The API reference: the page at /docs that shows /openapi.json with Swagger UI. It shares the key of the tab with the
// console, and may import ../console/session.ts for that and nothing else of this project.
import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

import { keyOfThisTab } from "../console/session.ts";

/** The reference of the served document, where requests can be tried with a key. */
const reference = SwaggerUI({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  tryItOutEnabled: true,
  // The badge of a validator on another host.
  validatorUrl: null,
  persistAuthorization: false,
  onComplete() {
    const key = keyOfThisTab();
    if (key !== undefined) reference.preauthorizeApiKey("bearer", key);
  },
});

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

import { keyOfThisTab } from "../console/session.ts";

/** The reference of the served document, with requests that can be tried out with a key. */
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

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.regex.Pattern;

/** The HTTP client of the JDK, with its defaults: it offers HTTP/2 with each request. */
class Client {
    static final String RUNS = System.getenv("HUB_URL") + "/api/v1/pipelines/runs";
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(RUNS + path)).header("Authorization", "Bearer " + System.getenv("HUB_KEY"));
    }

    static HttpResponse<String> ask(HttpRequest.Builder request) throws Exception {
        var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
        if (answer.statusCode() >= 300) throw new Exception(answer.statusCode() + " " + answer.body());
        return answer;
    }

    static String field(HttpResponse<String> answer, String name) {
        var found = Pattern.compile("\"" + name + "\": *\"([^\"]*)\"").matcher(answer.body());
        if (!found.find()) throw new IllegalStateException(answer.body());
        return found.group(1);
    }

    static String launch() throws Exception {
        var body = BodyPublishers.ofString("{\"recipe_id\": \"endless\"}");
        var headers = request("").header("Content-Type", "application/json").header("Idempotency-Key", "java-1");
        return field(ask(headers.POST(body)), "run_id");
    }

    public static void main(String[] args) throws Exception {
        var run = launch();
        System.out.println(run);
        System.out.println(launch());
        var text = "";
        for (var after = "0"; !text.endsWith("\n");) {
            var page = ask(request("/" + run + "/logs?after=" + after + "&wait=5").header("Accept", "text/plain"));
            text += page.body();
            after = page.headers().firstValue("Hub-Log-Offset").orElseThrow();
        }
        System.out.print(text);
        System.out.println(field(ask(request("/" + run + "/kill").POST(BodyPublishers.noBody())), "status"));
    }
}

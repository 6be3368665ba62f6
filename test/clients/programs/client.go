package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

var runs = os.Getenv("HUB_URL") + "/api/v1/pipelines/runs"

type answer struct {
	RunID  string `json:"run_id"`
	Status string `json:"status"`
	Chunk  string `json:"chunk"`
	Offset int64  `json:"offset"`
}

func ask(method, path string, body io.Reader, headers map[string]string) (found answer) {
	request, err := http.NewRequest(method, runs+path, body)
	check(err)
	request.Header.Set("Authorization", "Bearer "+os.Getenv("HUB_KEY"))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		check(fmt.Errorf("%s", response.Status))
	}
	check(json.NewDecoder(response.Body).Decode(&found))
	return found
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func launch() string {
	headers := map[string]string{"Content-Type": "application/json", "Idempotency-Key": "go-1"}
	return ask("POST", "", strings.NewReader(`{"recipe_id": "endless"}`), headers).RunID
}

func main() {
	run := launch()
	fmt.Println(run)
	fmt.Println(launch())
	text, after := "", int64(0)
	for !strings.HasSuffix(text, "\n") {
		page := ask("GET", fmt.Sprintf("/%s/logs?after=%d&wait=5", run, after), nil, nil)
		text, after = text+page.Chunk, page.Offset
	}
	fmt.Print(text)
	fmt.Println(ask("POST", "/"+run+"/kill", nil, nil).Status)
}

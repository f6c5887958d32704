# flatlab with its notebooks in a container, on http://127.0.0.1:8888 of this machine alone:
#
#   docker build --tag flatlab .
#   docker run --rm --interactive --tty --publish 127.0.0.1:8888:8888 --volume flatlab-runs:/home/lab/flatlab/runs flatlab
#
# For a GPU add --gpus all. The link with Jupyter's token is in the last lines that it prints.
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home lab && mkdir -p /home/lab/flatlab/runs && chown -R lab /home/lab/flatlab
# inside, the server answers on every interface: --publish above decides who can reach it
RUN mkdir -p /usr/local/etc/jupyter \
    && echo '{"ServerApp": {"ip": "0.0.0.0", "port": 8888, "port_retries": 0, "open_browser": false}}' \
    > /usr/local/etc/jupyter/jupyter_server_config.json
USER lab
WORKDIR /home/lab/flatlab
COPY --chown=lab . .
RUN make setup
EXPOSE 8888
CMD ["make", "lab"]
